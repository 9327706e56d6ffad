
/*
 * Repairs the checksums of a mutated .npz: with wrong ones, most of the code
 * after their check would not be reached.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>


#define FUZZ_ENTRY_LEN     46
#define FUZZ_HEADER_LEN    30
#define FUZZ_INFLATED_LEN  (256 * 1024)


size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
    unsigned int seed);


static uint32_t
fuzz_number(const uint8_t *p, size_t len)
{
    uint32_t  n;

    for (n = 0; len; len--) {
        n = n << 8 | p[len - 1];
    }

    return n;
}


static void
fuzz_set(uint8_t *p, uint32_t n)
{
    size_t  i;

    for (i = 0; i < 4; i++) {
        p[i] = (uint8_t) (n >> (8 * i));
    }
}


/* half of the inputs get the real size, too, the others keep a wrong one */

static void
fuzz_repair_deflated(uint8_t *entry, uint8_t *data, uint32_t len,
    unsigned int seed)
{
    z_stream        z;
    static uint8_t  inflated[FUZZ_INFLATED_LEN];

    memset(&z, 0, sizeof(z));

    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return;
    }

    z.next_in = data;
    z.avail_in = len;
    z.next_out = inflated;
    z.avail_out = FUZZ_INFLATED_LEN;

    if (inflate(&z, Z_FINISH) == Z_STREAM_END) {
        fuzz_set(entry + 16, (uint32_t) crc32(0, inflated, (uInt) z.total_out));

        if (seed & 2) {
            fuzz_set(entry + 24, (uint32_t) z.total_out);
        }
    }

    (void) inflateEnd(&z);
}


static void
fuzz_repair(uint8_t *start, size_t size, uint8_t *entry, unsigned int seed)
{
    size_t    offset;
    uint32_t  len;

    len = fuzz_number(entry + 20, 4);
    offset = fuzz_number(entry + 42, 4);

    if (offset > size || size - offset < FUZZ_HEADER_LEN) {
        return;
    }

    offset += FUZZ_HEADER_LEN + fuzz_number(start + offset + 26, 2)
              + fuzz_number(start + offset + 28, 2);

    if (offset > size || len > size - offset) {
        return;
    }

    if (fuzz_number(entry + 10, 2) == 0) {
        fuzz_set(entry + 16, (uint32_t) crc32(0, start + offset, len));

    } else {
        fuzz_repair_deflated(entry, start + offset, len, seed);
    }
}


size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
    unsigned int seed)
{
    size_t  i;

    size = LLVMFuzzerMutate(data, size, max_size);

    if (seed & 1) {
        return size;
    }

    for (i = 0; i + FUZZ_ENTRY_LEN <= size; i++) {
        if (memcmp(data + i, "PK\x01\x02", 4) == 0) {
            fuzz_repair(data, size, data + i, seed);
        }
    }

    return size;
}
