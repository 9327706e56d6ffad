
/* The list of features, with dtypes and shapes; request ids and client keys. */

#include "ngx_webtorch_features.h"
#include "ngx_webtorch_columns.h"
#include "ngx_webtorch_hash.h"
#include "ngx_webtorch_text.h"
#include "ngx_webtorch_tokens.h"
#include "ngx_webtorch_traits.h"
#include "ngx_webtorch_window.h"

#include <stdio.h>
#include <string.h>


typedef struct {
    const char  *name;
    uint32_t     dtypes;                  /* a bit for each */
    int64_t      rows;                    /* size of the axis before the last;
                                             0: there is none */
    int64_t      max;                     /* size of the last axis */
    int          exact;                   /* the last axis has this size */
    int          variable;                /* the last axis may be variable */
    const char  *form;                    /* for error messages */
} ngx_webtorch_feature_t;


static const ngx_webtorch_feature_t  ngx_webtorch_features[] = {
    { "ngrams", 1 << WEBTORCH_INT32 | 1 << WEBTORCH_INT64,
      0, NGX_WEBTORCH_MAX_NGRAMS, 0, 0, "int32 or int64 [batch, 1 to 65536]" },
    { "bytes", 1 << WEBTORCH_UINT8,
      0, NGX_WEBTORCH_TEXT_SIZE, 0, 0, "uint8 [batch, 1 to 16384]" },
    { "tokens", 1 << WEBTORCH_INT32,
      NGX_WEBTORCH_TOKEN, NGX_WEBTORCH_MAX_TOKENS, 0, 1,
      "int32 [batch, 5, 1 to 16384, or an axis]" },
    { "segments", 1 << WEBTORCH_INT64,
      0, NGX_WEBTORCH_MAX_TOKENS, 0, 1,
      "int64 [batch, 1 to 16384, or an axis]" },
    { "parameters", 1 << WEBTORCH_INT32,
      NGX_WEBTORCH_PARAMETER, NGX_WEBTORCH_SEGMENTS, 1, 0,
      "int32 [batch, 3, 64]" },
    { "numbers", 1 << WEBTORCH_INT32,
      0, NGX_WEBTORCH_MAX_NUMBERS, 0, 1,
      "int32 [batch, 1 to 65536, or an axis]" },
    { "windows", 1 << WEBTORCH_INT64,
      0, NGX_WEBTORCH_MAX_NUMBERS, 0, 1,
      "int64 [batch, 1 to 65536, or an axis]" },
    { "traits", 1 << WEBTORCH_INT32,
      NGX_WEBTORCH_TRAIT, NGX_WEBTORCH_MAX_NUMBERS, 0, 1,
      "int32 [batch, 4, 1 to 65536, or an axis]" },
    { "names", 1 << WEBTORCH_UINT8,
      0, NGX_WEBTORCH_NAMES_SIZE, 0, 0, "uint8 [batch, 1 to 16384]" },
    { "logits", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_MAX_TRAITS, 0, 1,
      "float32 [batch, 1 to 4096, or an axis]" },
    { "prints", 1 << WEBTORCH_INT64,
      0, NGX_WEBTORCH_MAX_TRAITS, 0, 1,
      "int64 [batch, 1 to 4096, or an axis]" },
    { "request", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_REQUEST_COLUMNS, 0, 0, "float32 [batch, 1 to 45]" },
    { "client", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_CLIENT_COLUMNS, 0, 0, "float32 [batch, 1 to 31]" },
    { "site", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_SITE_COLUMNS, 0, 0, "float32 [batch, 1 to 8]" },
    { "outcome", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_OUTCOME_COLUMNS, 0, 0, "float32 [batch, 1 to 13]" },
    { "id", 1 << WEBTORCH_UINT8,
      0, NGX_WEBTORCH_ID_LEN, 1, 0, "uint8 [batch, 16]" },
    { "key", 1 << WEBTORCH_INT64, 0, 1, 1, 0, "int64 [batch, 1]" },
    { "location", 1 << WEBTORCH_INT64, 0, 1, 1, 0, "int64 [batch, 1]" },
    { "target", 1 << WEBTORCH_FLOAT32, 0, 1, 1, 0, "float32 [batch, 1]" }
};


int
ngx_webtorch_feature_find(const webtorch_spec_t *spec, uint32_t mask,
    char *error, size_t len)
{
    int                            n;
    int64_t                        last;
    uint32_t                       i;
    const ngx_webtorch_feature_t  *feature;

    for (i = 0; i < NGX_WEBTORCH_NFEATURES; i++) {
        feature = &ngx_webtorch_features[i];

        if (!(mask & 1U << i)
            || strncmp(spec->name, feature->name, WEBTORCH_NAME_LEN) != 0)
        {
            continue;
        }

        last = spec->ndim ? spec->shape[spec->ndim - 1] : 0;

        if ((feature->dtypes & 1U << spec->dtype)
            && spec->ndim == (feature->rows ? 2 : 1)
            && (feature->rows == 0 || spec->shape[0] == feature->rows)
            && ((feature->variable && last == -1)
                || (last >= (feature->exact ? feature->max : 1)
                    && last <= feature->max)))
        {
            return (int) i;
        }

        (void) snprintf(error, len, "feature \"%s\" is %s",
                        feature->name, feature->form);

        return -1;
    }

    n = snprintf(error, len, "there is no feature \"%.*s\" here, known are",
                 WEBTORCH_NAME_LEN, spec->name);

    for (i = 0; i < NGX_WEBTORCH_NFEATURES; i++) {
        if ((mask & 1U << i) && n > 0 && (size_t) n < len) {
            n += snprintf(error + n, len - (size_t) n, " \"%s\"",
                          ngx_webtorch_features[i].name);
        }
    }

    return -1;
}


void
ngx_webtorch_features_id(unsigned char *row, const char *id, size_t len)
{
    int     high, low;
    size_t  i;

    memset(row, 0, NGX_WEBTORCH_ID_LEN);

    if (len != 2 * NGX_WEBTORCH_ID_LEN) {
        return;
    }

    for (i = 0; i < NGX_WEBTORCH_ID_LEN; i++) {
        high = ngx_webtorch_hex((unsigned char) id[2 * i]);
        low = ngx_webtorch_hex((unsigned char) id[2 * i + 1]);

        if (high < 0 || low < 0) {
            memset(row, 0, NGX_WEBTORCH_ID_LEN);
            return;
        }

        row[i] = (unsigned char) (high << 4 | low);
    }
}


int64_t
ngx_webtorch_features_key(const char *key, size_t len)
{
    size_t    i;
    uint64_t  h;

    h = NGX_WEBTORCH_FNV64_BASIS;

    for (i = 0; i < len; i++) {
        h = (h ^ (unsigned char) key[i]) * NGX_WEBTORCH_FNV64_PRIME;
    }

    return (int64_t) (h >> 1);
}
