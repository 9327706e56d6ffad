
/*
 * Answers of the Open Inference Protocol: JSON, and after it the outputs that
 * the request wants as binary tensors.
 */

#include "ngx_webtorch_oip_parts.hpp"
#include "ngx_webtorch_oip_reply.h"
#include "ngx_webtorch_json_write.hpp"

#include <cstring>
#include <string_view>

namespace {

using namespace webtorch::json;
using webtorch::oip::kDatatypes;
using webtorch::oip::kLengthLen;

/* an output without its name and elements: words, and numbers of 20 digits */
constexpr size_t kOutputLen = 128 + 21 * (NGX_WEBTORCH_ARRAY_DIMS + 1);

/* an answer without its id, its model's name and its outputs */
constexpr size_t kAnswerLen = 128;


char *
write_elements(char *p, const webtorch_spec_t &spec, const void *data,
    uint32_t rows)
{
    uint64_t  n = rows * ngx_webtorch_row_elements(&spec);

    return webtorch::visit_all(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        const T *v = static_cast<const T *>(data);

        for (uint64_t i = 0; i < n; i++) {
            if (i) {
                *p++ = ',';
            }

            p = write_number(p, v[i]);
        }

        return p;
    });
}


char *
write_output(char *p, const webtorch_spec_t &spec, const void *data,
    bool binary, const ngx_webtorch_layout_t *layout)
{
    int64_t   shape[NGX_WEBTORCH_ARRAY_DIMS];
    uint32_t  n = ngx_webtorch_array_shape(shape, &spec, layout);

    /* names are Python identifiers: nothing in them to escape */

    p = write_text(p, "{\"name\":\"");
    p = write_text(p, spec.name);
    p = write_text(p, "\",\"datatype\":\"");
    p = write_text(p, kDatatypes[spec.dtype]);
    p = write_text(p, "\",\"shape\":[");

    for (uint32_t i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = write_number(p, shape[i]);
    }

    if (binary) {
        p = write_text(p, "],\"parameters\":{\"binary_data_size\":");
        p = write_number(p, ngx_webtorch_oip_size(&spec, data, layout->rows));

        return write_text(p, "}}");
    }

    p = write_text(p, "],\"data\":[");
    p = write_elements(p, spec, data, layout->rows);

    return write_text(p, "]}");
}

} /* namespace */


const char *
ngx_webtorch_oip_datatype(int32_t dtype)
{
    return kDatatypes[dtype];
}


size_t
ngx_webtorch_oip_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    if (!ngx_webtorch_is_string(spec->dtype)) {
        return rows * static_cast<size_t>(spec->row_size);
    }

    return ngx_webtorch_text_size(spec, data, rows)
           + rows * ngx_webtorch_row_elements(spec) * kLengthLen;
}


char *
ngx_webtorch_oip_pack(char *p, const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    size_t                  n = rows * static_cast<size_t>(spec->row_size);
    uint32_t                len;
    const webtorch_text_t  *text = static_cast<const webtorch_text_t *>(data);

    if (!ngx_webtorch_is_string(spec->dtype)) {
        return static_cast<char *>(std::memcpy(p, data, n)) + n;
    }

    for (n /= sizeof(webtorch_text_t); n; n--, text++) {
        len = static_cast<uint32_t>(text->len);

        p = static_cast<char *>(std::memcpy(p, &len, kLengthLen)) + kLengthLen;

        if (len) {
            std::memcpy(p, reinterpret_cast<const char *>(text->at), len);
            p += len;
        }
    }

    return p;
}


size_t
ngx_webtorch_oip_bound(const ngx_webtorch_oip_t *oip, size_t name_len,
    const webtorch_spec_t *specs, const ngx_webtorch_layout_t *layout)
{
    size_t    size = kAnswerLen + name_len + oip->version_len
                     + kEscapedLen * (oip->id_len + layout->text);
    uint32_t  i;

    for (i = 0; i < oip->noutputs; i++) {
        const webtorch_spec_t &spec = specs[oip->outputs[i]];

        size += std::strlen(spec.name) + kOutputLen;

        if (!(oip->binary & (1u << i))) {
            size += layout->rows * ngx_webtorch_row_elements(&spec)
                    * kNumberLen;
        }
    }

    return size;
}


char *
ngx_webtorch_oip_encode(char *p, const ngx_webtorch_oip_t *oip,
    const char *name, size_t name_len, const webtorch_spec_t *specs,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    uint32_t  i, k;

    p = write_text(p, "{\"model_name\":\"");
    p = write_text(p, std::string_view(name, name_len));
    p = write_text(p, "\",\"model_version\":\"");
    p = write_text(p, std::string_view(oip->version, oip->version_len));
    *p++ = '"';

    if (oip->id_len) {
        p = write_text(p, ",\"id\":\"");
        p = write_escaped(p, std::string_view(oip->id, oip->id_len));
        *p++ = '"';
    }

    p = write_text(p, ",\"outputs\":[");

    for (i = 0; i < oip->noutputs; i++) {
        k = oip->outputs[i];

        if (i) {
            *p++ = ',';
        }

        p = write_output(p, specs[k], data[k], oip->binary & (1u << i),
                         layout);
    }

    return write_text(p, "]}");
}
