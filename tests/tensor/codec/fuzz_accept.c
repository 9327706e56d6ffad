
/* Fuzzes the choice of a format, by Content-Type and by Accept. */

#include "ngx_webtorch_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


#define fuzz_check(condition, what)                                           \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);             \
        abort();                                                              \
    }


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* returns 1 if the header begins with one of the format's types */

static int
fuzz_has_type(const ngx_webtorch_codec_t *codec, const char *header,
    size_t size)
{
    size_t    len;
    uint32_t  i;

    for (i = 0; i < NGX_WEBTORCH_MAX_TYPES && codec->types[i]; i++) {
        len = strlen(codec->types[i]);

        if (len <= size && strncasecmp(codec->types[i], header, len) == 0) {
            return 1;
        }
    }

    return 0;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char                        *header;
    uint32_t                     n;
    const ngx_webtorch_codec_t  *found, *const *own;

    /* exactly the header's size, so that a sanitizer detects reads beyond it */
    header = malloc(size ? size : 1);
    fuzz_check(header != NULL, "no memory");

    if (size) {
        memcpy(header, data, size);
    }

    found = ngx_webtorch_codec_by_type(header, size);

    fuzz_check(found == NULL || fuzz_has_type(found, header, size),
               "a type that is not in the header");

    for (own = ngx_webtorch_codecs; *own; own++) {
        for (n = 1; n <= 2; n++) {
            found = ngx_webtorch_codec_by_accept(header, size, *own, n, 0);

            fuzz_check(found == NULL || n == 1 || found->several,
                       "a format that cannot hold several tensors");

            found = ngx_webtorch_codec_by_accept(header, size, *own, n, 1);

            fuzz_check(found == NULL || found->strings,
                       "a format that cannot hold strings");
        }
    }

    free(header);

    return 0;
}
