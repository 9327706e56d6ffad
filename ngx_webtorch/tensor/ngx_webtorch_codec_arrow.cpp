
/*
 * Arrow IPC streams: tables as data frames have them in memory.
 */

#include "ngx_webtorch_arrow_read.hpp"
#include "ngx_webtorch_arrow_write.hpp"
#include "ngx_webtorch_gaps.h"

#include <new>

namespace {

using namespace webtorch::arrow;


int
read(Reader &r, std::string_view body)
{
    size_t                 i, n, size;
    char                  *rows[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_sink_t   *sink = r.sink;

    if (read_stream(r, body) != 0) {
        return -1;
    }

    n = r.columns.size();

    for (i = 0; i < r.chunks.size(); i++) {
        if (count_chunk(r, r.columns[i % n], r.chunks[i], &r.layout->text) != 0)
        {
            return -1;
        }
    }

    if (ngx_webtorch_gaps_reserve(r.schema, sink, r.layout, r.err) != 0) {
        return -1;
    }

    for (i = 0; i < n; i++) {
        rows[i] = static_cast<char *>(sink->data[r.columns[i].input]);
    }

    for (i = 0; i < r.chunks.size(); i++) {
        const webtorch_spec_t &spec = r.schema->inputs[r.columns[i % n].input];

        if (read_chunk(r, r.columns[i % n], r.chunks[i], rows[i % n]) != 0) {
            return -1;
        }

        size = r.chunks[i].elements * ngx_webtorch_dtypes[spec.dtype].size;
        rows[i % n] += size;
    }

    return 0;
}


int
decode(const char *body, size_t len, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    layout->rows = 0;
    layout->single = !schema->batched;
    layout->named = 1;
    layout->records = 0;
    layout->text = 0;

    try {
        Reader  r = { schema, sink, layout, err, len, 0, {}, {}, {} };

        return read(r, std::string_view(body, len));

    } catch (const std::bad_alloc &) {
        return ngx_webtorch_error(err, 500, "no_memory", "no memory");
    }
}


/*
 * Strings, small record batches, and the bits of missing elements take the time
 * and the memory of text of at most the length.
 */

size_t
text(const char *, size_t len)
{
    return len;
}

} /* namespace */


const ngx_webtorch_codec_t  ngx_webtorch_codec_arrow = {
    "arrow",
    { "application/vnd.apache.arrow.stream" },
    1,
    0,
    0,
    1,
    decode,
    bound,
    encode,
    nullptr,
    nullptr,
    nullptr,
    text,
    0,
    1
};
