
/*
 * Fuzzes requests that a net scores.  What is read by the memo must be what is
 * read without it.
 */

#include "ngx_webtorch_scored.h"
#include "fuzz_request.h"


#define FUZZ_KNOWN   65536
#define FUZZ_HIDDEN  5
#define FUZZ_READS   4
#define FUZZ_HEADERS 5


typedef struct {
    ngx_webtorch_part_t   parts[FUZZ_PARTS];
    ngx_webtorch_part_t   encoding;
    unsigned char         work[FUZZ_WORK];
} fuzz_request_t;


static ngx_webtorch_net_t      *fuzz_net;
static ngx_webtorch_memo_t      fuzz_memo;
static ngx_webtorch_fields_t    fuzz_fields;
static ngx_webtorch_scored_t    fuzz_scored;
static ngx_webtorch_windows_t   fuzz_windows;
static ngx_webtorch_traits_t    fuzz_traits;

static int32_t  fuzz_numbers[NGX_WEBTORCH_MAX_NUMBERS];
static int32_t  fuzz_rows[NGX_WEBTORCH_MAX_NUMBERS];


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
fuzz_init(void)
{
    void            *memory;
    size_t           i;
    webtorch_net_t   net;

    static char     kinds[2 * WEBTORCH_KIND_LEN] = "one";
    static int32_t  known[FUZZ_KNOWN];
    static float    table[(FUZZ_KNOWN + 1) * (1 + FUZZ_HIDDEN)];
    static float    bias[FUZZ_HIDDEN], weight[3 * FUZZ_HIDDEN], out[3];

    for (i = 0; i < FUZZ_KNOWN; i++) {
        known[i] = (int32_t) (16 * i + 1 + i % 13);
    }

    for (i = 0; i < sizeof(table) / sizeof(float); i++) {
        table[i] = (float) (i * 2654435761U % 1000) / 1000 - 0.5f;
    }

    for (i = 0; i < sizeof(weight) / sizeof(float); i++) {
        weight[i] = (float) (i % 5) - 2;
    }

    memset(&net, 0, sizeof(webtorch_net_t));

    net.nknown = FUZZ_KNOWN;
    net.hidden = FUZZ_HIDDEN;
    net.outputs = 3;
    net.known = known;
    net.table = table;
    net.bias = bias;
    net.weight = weight;
    net.out_bias = out;
    net.kinds = kinds;

    fuzz_check(posix_memalign(&memory, 64, ngx_webtorch_net_size(&net)) == 0,
               "no memory");

    fuzz_net = ngx_webtorch_net_init(memory, &net);
    fuzz_check(fuzz_net, "no net");

    ngx_webtorch_memo_init(&fuzz_memo, 0x0123456789abcdefULL);
}


static void
fuzz_read(fuzz_request_t *request, uint32_t nheaders)
{
    uint32_t                      i;
    ngx_webtorch_scored_header_t  header[FUZZ_HEADERS];

    ngx_webtorch_scored_init(&fuzz_scored, fuzz_net, &fuzz_memo, &fuzz_fields);

    fuzz_fields.work = request->work;
    fuzz_fields.work_size = FUZZ_WORK;

    for (i = 0; i < nheaders; i++) {
        header[i].name = request->parts[4];
        header[i].value = request->parts[5];
    }

    ngx_webtorch_scored_path(&fuzz_scored, &request->parts[0]);
    ngx_webtorch_scored_query(&fuzz_scored, &request->parts[1]);
    ngx_webtorch_scored_headers(&fuzz_scored, header, nheaders);
    ngx_webtorch_scored_body(&fuzz_scored, &request->parts[2],
                             &request->parts[FUZZ_LINES]);
    ngx_webtorch_scored_request(&fuzz_scored, &request->parts[4]);
}


/* without net and memo; returns whether the request is not too large */

static int
fuzz_read_windows(fuzz_request_t *request)
{
    ngx_webtorch_windows_init(&fuzz_windows, fuzz_numbers, fuzz_rows,
                              NGX_WEBTORCH_MAX_NUMBERS);
    ngx_webtorch_traits_init(&fuzz_traits, &request->parts[0]);
    ngx_webtorch_fields_init(&fuzz_fields, ngx_webtorch_windows_field,
                             &fuzz_windows);

    fuzz_windows.traits = &fuzz_traits;
    fuzz_fields.work = request->work;
    fuzz_fields.work_size = FUZZ_WORK;

    ngx_webtorch_fields_path(&fuzz_fields, &request->parts[0]);
    ngx_webtorch_fields_query(&fuzz_fields, &request->parts[1]);
    ngx_webtorch_fields_header(&fuzz_fields, &request->parts[4],
                               &request->parts[5]);
    ngx_webtorch_fields_header(&fuzz_fields, &request->parts[4],
                               &request->parts[5]);
    ngx_webtorch_fields_body(&fuzz_fields, &request->parts[2],
                             &request->encoding, &request->parts[FUZZ_LINES]);
    ngx_webtorch_windows_request(&fuzz_windows, &fuzz_fields,
                                 &request->parts[4]);

    return fuzz_windows.count <= NGX_WEBTORCH_SCORED_NUMBERS
           && fuzz_windows.nwindows < NGX_WEBTORCH_MAX_TRAITS
           && !fuzz_windows.full;
}


static void
fuzz_compare(void)
{
    float                                logit;
    int32_t                              traits[NGX_WEBTORCH_TRAIT];
    uint32_t                             i, first, window, kind;
    ngx_webtorch_scored_list_t           list;
    const ngx_webtorch_trait_t          *trait;
    const ngx_webtorch_scored_window_t  *found;

    fuzz_check(!fuzz_scored.full, "there is no room");
    fuzz_check(fuzz_scored.found.nwindows == fuzz_windows.nwindows,
               "another number of windows");
    fuzz_check(fuzz_scored.nnumbers == fuzz_windows.count,
               "another number of numbers");

    first = 0;
    window = 0;

    for (i = 1; i <= fuzz_windows.count; i++) {

        if (i < fuzz_windows.count && fuzz_rows[i] == fuzz_rows[first]) {
            continue;
        }

        ngx_webtorch_net_window(fuzz_net, fuzz_numbers + first, i - first,
                                &logit, &kind);

        found = &fuzz_scored.found.windows[window];
        trait = &fuzz_traits.windows[window];

        fuzz_check(found->logit == logit && found->kind == kind
                   && found->nnumbers == i - first,
                   "a window differs");

        list = fuzz_scored.found;
        list.windows += window;
        list.nwindows = 1;

        ngx_webtorch_features_scored_traits(traits, 1, &list);

        fuzz_check(traits[0] == trait->key && traits[1] == trait->field
                   && traits[2] == trait->len && traits[3] == trait->alphabet,
                   "traits differ");

        first = i;
        window++;
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                     fits;
    size_t                  i;
    uint32_t                odd, unread;
    static fuzz_request_t   request;

    if (fuzz_net == NULL) {
        fuzz_init();
    }

    fuzz_request_split(request.parts, data, size);

    fits = fuzz_read_windows(&request);
    odd = fuzz_fields.flaws;
    unread = fuzz_fields.unread;

    /* what comes for the third time is in the memo, also of another request */

    fuzz_read(&request, FUZZ_HEADERS);

    for (i = 0; i < FUZZ_READS; i++) {
        fuzz_read(&request, 2);

        if (fits) {
            fuzz_check(fuzz_fields.flaws == odd && fuzz_fields.unread == unread,
                       "something else is unusual");
            fuzz_compare();
        }
    }

    fuzz_request_free(request.parts);

    return 0;
}
