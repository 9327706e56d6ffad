
/*
 * The schema of an Arrow stream: types of columns.
 */

#include "ngx_webtorch_arrow_read.hpp"


namespace webtorch::arrow {

namespace {

int
refuse_type(const Reader &r, const char *name, const char *type,
    const char *advice)
{
    return ngx_webtorch_error(r.err, 422, "wrong_dtype",
               "tensor \"%s\": its column is of the type %s, which is not "
               "supported%s", name, type, advice);
}


int
set_number(const Reader &r, const Field &field, const char *name,
    ColumnType *column)
{
    static constexpr int32_t  floats[] = {
        WEBTORCH_FLOAT16, WEBTORCH_FLOAT32, WEBTORCH_FLOAT64
    };

    const Type  *type = field.type();

    if (column->type == kFloat && type != nullptr
        && type->precision() >= 0 && type->precision() <= 2)
    {
        column->dtype = floats[type->precision()];
        return 0;
    }

    if (column->type == kInt && type != nullptr) {
        int32_t first = type->is_signed() ? WEBTORCH_INT8 : WEBTORCH_UINT8;

        switch (type->bit_width()) {
        case 8:
            column->dtype = first;
            return 0;
        case 16:
            column->dtype = first + 1;
            return 0;
        case 32:
            column->dtype = first + 2;
            return 0;
        case 64:
            column->dtype = first + 3;
            return 0;
        default:
            break;
        }
    }

    return refuse_type(r, name, "a number of an unknown size", "");
}


int
set_type(const Reader &r, const Field *field, const char *name,
    ColumnType *column)
{
    column->nlists = 0;

    for ( ;; ) {
        if (field->is_dictionary()) {
            return refuse_type(r, name, "dictionary",
                               ": send the values, in pyarrow "
                               "column.dictionary_decode()");
        }

        column->type = field->type_type();

        if (column->type != kList && column->type != kLargeList
            && column->type != kFixedSizeList)
        {
            break;
        }

        if (column->nlists == NGX_WEBTORCH_ARRAY_DIMS
            || field->children() == nullptr || field->children()->size() != 1
            || field->type() == nullptr)
        {
            return malformed(r, "a list has too many levels or no child");
        }

        column->lists[column->nlists] = column->type;
        column->sizes[column->nlists++] =
            column->type == kFixedSizeList ? field->type()->list_size() : 0;

        field = field->children()->Get(0);
    }

    column->dtype = WEBTORCH_BYTES;

    switch (column->type) {

    case kInt:
    case kFloat:
        return set_number(r, *field, name, column);

    case kBool:
        column->dtype = WEBTORCH_BOOL;
        return 0;

    case kNull:
        return 0;

    default:
        break;
    }

    if (is_text(column->type)) {
        return 0;
    }

    return refuse_type(r, name,
               column->type < sizeof(kTypeNames) / sizeof(kTypeNames[0])
               ? kTypeNames[column->type] : "unknown",
               ": cast the column");
}

} /* namespace */


int
read_schema(Reader &r, const Schema *schema, uint32_t *seen)
{
    uint32_t          i;
    std::string_view  name;

    if (schema == nullptr || schema->fields() == nullptr) {
        return malformed(r, "the schema has no fields");
    }

    if (schema->endianness() != 0) {
        return malformed(r, "it is big-endian, little-endian is expected");
    }

    for (const Field *field : *schema->fields()) {
        name = field->name() ? field->name()->string_view()
                             : std::string_view();
        i = ngx_webtorch_find_input(r.schema, name.data(), name.size());

        if (i == r.schema->ninputs) {
            return ngx_webtorch_error_unknown(r.err, name.data(), name.size(),
                                              r.schema->inputs,
                                              r.schema->ninputs);
        }

        if (*seen & (1u << i)) {
            return ngx_webtorch_error_duplicate(r.err, &r.schema->inputs[i]);
        }

        *seen |= 1u << i;

        ColumnType  column = {};

        column.input = i;

        if (set_type(r, field, r.schema->inputs[i].name, &column) != 0) {
            return -1;
        }

        r.columns.push_back(column);
    }

    return 0;
}


} /* namespace webtorch::arrow */
