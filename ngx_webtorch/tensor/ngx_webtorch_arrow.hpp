
/*
 * The metadata of Arrow's IPC streams, see Schema.fbs and Message.fbs of the
 * format.  Each message is verified by the library flatbuffers before it is
 * read; numbers of fields are their places in these files.
 */


#ifndef _NGX_WEBTORCH_ARROW_HPP_INCLUDED_
#define _NGX_WEBTORCH_ARROW_HPP_INCLUDED_


#include <cstdint>
#include <flatbuffers/flatbuffers.h>


namespace webtorch::arrow {


using flatbuffers::Offset;
using flatbuffers::String;
using flatbuffers::Table;
using flatbuffers::Vector;
using flatbuffers::Verifier;
using flatbuffers::voffset_t;


/* in front of each message, and twice at the end of a stream: the second is 0 */
constexpr uint32_t  kContinuation = 0xffffffff;

/* buffers of a body are at multiples of this */
constexpr size_t    kAlignment = 8;

/* the version V5 of the metadata */
constexpr int16_t   kVersion = 4;

enum HeaderType : uint8_t {
    kSchema = 1,
    kDictionaryBatch = 2,
    kRecordBatch = 3
};

enum TypeType : uint8_t {
    kNull = 1,
    kInt = 2,
    kFloat = 3,
    kBinary = 4,
    kUtf8 = 5,
    kBool = 6,
    kList = 12,
    kFixedSizeList = 16,
    kLargeBinary = 19,
    kLargeUtf8 = 20,
    kLargeList = 21,
    kBinaryView = 23,
    kUtf8View = 24
};

/* for messages */
constexpr const char *kTypeNames[] = {
    "no type", "null", "int", "float", "binary", "utf8", "bool", "decimal",
    "date", "time", "timestamp", "interval", "list", "struct", "union",
    "fixed_size_binary", "fixed_size_list", "map", "duration", "large_binary",
    "large_utf8", "large_list", "run_end_encoded", "binary_view", "utf8_view",
    "list_view", "large_list_view"
};


constexpr voffset_t
place(unsigned field)
{
    return static_cast<voffset_t>(4 + 2 * field);
}


/* Int, FloatingPoint and FixedSizeList: up to two numbers */

struct Type : private Table {
    int32_t bit_width() const { return GetField<int32_t>(place(0), 0); }
    bool is_signed() const { return GetField<uint8_t>(place(1), 0) != 0; }
    int16_t precision() const { return GetField<int16_t>(place(0), 0); }
    int32_t list_size() const { return GetField<int32_t>(place(0), 0); }

    bool
    verify(Verifier &v, uint8_t type) const
    {
        if (!VerifyTableStart(v)) {
            return false;
        }

        switch (type) {

        case kInt:
            return VerifyField<int32_t>(v, place(0), 4)
                   && VerifyField<uint8_t>(v, place(1), 1) && v.EndTable();

        case kFloat:
            return VerifyField<int16_t>(v, place(0), 2) && v.EndTable();

        case kFixedSizeList:
            return VerifyField<int32_t>(v, place(0), 4) && v.EndTable();

        default:
            return v.EndTable();
        }
    }
};


struct Field : private Table {
    const String *name() const { return GetPointer<const String *>(place(0)); }
    uint8_t type_type() const { return GetField<uint8_t>(place(2), 0); }
    const Type *type() const { return GetPointer<const Type *>(place(3)); }
    bool is_dictionary() const
    {
        return GetPointer<const void *>(place(4)) != nullptr;
    }

    const Vector<Offset<Field>> *
    children() const
    {
        return GetPointer<const Vector<Offset<Field>> *>(place(5));
    }

    bool
    verify(Verifier &v) const
    {
        if (!VerifyTableStart(v)
            || !VerifyOffset(v, place(0)) || !v.VerifyString(name())
            || !VerifyField<uint8_t>(v, place(2), 1)
            || !VerifyOffset(v, place(3))
            || !VerifyOffset(v, place(4))
            || !VerifyOffset(v, place(5)) || !v.VerifyVector(children())
            || (type() != nullptr && !type()->verify(v, type_type())))
        {
            return false;
        }

        for (flatbuffers::uoffset_t i = 0;
             children() != nullptr && i < children()->size();
             i++)
        {
            if (!children()->Get(i)->verify(v)) {
                return false;
            }
        }

        return v.EndTable();
    }
};


struct Schema : private Table {
    int16_t endianness() const { return GetField<int16_t>(place(0), 0); }

    const Vector<Offset<Field>> *
    fields() const
    {
        return GetPointer<const Vector<Offset<Field>> *>(place(1));
    }

    bool
    verify(Verifier &v) const
    {
        if (!VerifyTableStart(v)
            || !VerifyField<int16_t>(v, place(0), 2)
            || !VerifyOffset(v, place(1)) || !v.VerifyVector(fields()))
        {
            return false;
        }

        for (flatbuffers::uoffset_t i = 0;
             fields() != nullptr && i < fields()->size();
             i++)
        {
            if (!fields()->Get(i)->verify(v)) {
                return false;
            }
        }

        return v.EndTable();
    }
};


/* the verifier of flatbuffers checks the alignment of a vector's length only */

template <typename T>
bool
verify_numbers(Verifier &v, const Vector<T> *numbers)
{
    return v.VerifyVector(numbers)
           && (numbers == nullptr || numbers->size() == 0
               || reinterpret_cast<uintptr_t>(numbers->Data())
                  % sizeof(int64_t) == 0);
}


/* structs of the format */

struct Node {
    int64_t  length;
    int64_t  nulls;
};


struct Buffer {
    int64_t  offset;
    int64_t  length;
};


struct RecordBatch : private Table {
    int64_t length() const { return GetField<int64_t>(place(0), 0); }

    const Vector<const Node *> *
    nodes() const
    {
        return GetPointer<const Vector<const Node *> *>(place(1));
    }

    const Vector<const Buffer *> *
    buffers() const
    {
        return GetPointer<const Vector<const Buffer *> *>(place(2));
    }

    bool is_compressed() const
    {
        return GetPointer<const void *>(place(3)) != nullptr;
    }

    const Vector<int64_t> *
    variadic() const
    {
        return GetPointer<const Vector<int64_t> *>(place(4));
    }

    bool
    verify(Verifier &v) const
    {
        return VerifyTableStart(v)
               && VerifyField<int64_t>(v, place(0), 8)
               && VerifyOffset(v, place(1)) && verify_numbers(v, nodes())
               && VerifyOffset(v, place(2)) && verify_numbers(v, buffers())
               && VerifyOffset(v, place(3))
               && VerifyOffset(v, place(4)) && verify_numbers(v, variadic())
               && v.EndTable();
    }
};


struct Message : private Table {
    uint8_t header_type() const { return GetField<uint8_t>(place(1), 0); }
    int64_t body_length() const { return GetField<int64_t>(place(3), 0); }

    template <typename T>
    const T *
    header() const
    {
        return GetPointer<const T *>(place(2));
    }

    /* the name is that of generated code, Verifier calls it */

    bool
    Verify(Verifier &v) const
    {
        if (!VerifyTableStart(v)
            || !VerifyField<int16_t>(v, place(0), 2)
            || !VerifyField<uint8_t>(v, place(1), 1)
            || !VerifyOffset(v, place(2))
            || !VerifyField<int64_t>(v, place(3), 8))
        {
            return false;
        }

        if (header<Schema>() == nullptr) {
            return v.EndTable();
        }

        if ((header_type() == kSchema && !header<Schema>()->verify(v))
            || (header_type() == kRecordBatch
                && !header<RecordBatch>()->verify(v)))
        {
            return false;
        }

        return v.EndTable();
    }
};


} /* namespace webtorch::arrow */


#endif /* _NGX_WEBTORCH_ARROW_HPP_INCLUDED_ */
