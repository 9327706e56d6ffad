
/* Reads a request as windows that a net has scored. */

#include "ngx_webtorch_scored.h"
#include "ngx_webtorch_hash.h"

#include <math.h>
#include <string.h>
#include <strings.h>


/* kinds of keys; those of fields have their place, which is small, too */

#define NGX_WEBTORCH_SCORED_PATH     0x100
#define NGX_WEBTORCH_SCORED_QUERY    0x200
#define NGX_WEBTORCH_SCORED_HEADER   0x300
#define NGX_WEBTORCH_SCORED_BODY     0x400
#define NGX_WEBTORCH_SCORED_REQUEST  0x500
#define NGX_WEBTORCH_SCORED_FIELD    0x600
#define NGX_WEBTORCH_SCORED_HEADERS  0x700


/* state before a part is read */

typedef struct {
    uint32_t  nwindows;
    uint32_t  flaws;
    uint32_t  unread;
    uint32_t  json_lens;
} ngx_webtorch_scored_mark_t;


static void ngx_webtorch_scored_field(void *data,
    const ngx_webtorch_field_t *field);
static void ngx_webtorch_scored_windows(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_field_t *field);
static void ngx_webtorch_scored_window(ngx_webtorch_scored_t *scored,
    const int32_t *numbers, uint32_t n,
    const ngx_webtorch_scored_window_t *traits);
static int ngx_webtorch_scored_known(ngx_webtorch_scored_t *scored,
    ngx_webtorch_memo_key_t *key);
static void ngx_webtorch_scored_begin(ngx_webtorch_scored_t *scored,
    ngx_webtorch_scored_mark_t *mark);
static void ngx_webtorch_scored_end(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_memo_key_t *key,
    const ngx_webtorch_scored_mark_t *mark);
static void ngx_webtorch_scored_keep(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_memo_key_t *key, uint32_t first);
static void ngx_webtorch_scored_header(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value);
static void ngx_webtorch_scored_line(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value);
static uint64_t ngx_webtorch_scored_print(const int32_t *numbers, uint32_t n);
static int32_t ngx_webtorch_scored_trait(
    const ngx_webtorch_scored_window_t *window);
static int32_t ngx_webtorch_scored_key(const ngx_webtorch_scored_list_t *list,
    const ngx_webtorch_scored_window_t *window);


void
ngx_webtorch_scored_init(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_net_t *net, ngx_webtorch_memo_t *memo,
    ngx_webtorch_fields_t *fields)
{
    scored->net = net;
    scored->memo = memo;
    scored->fields = fields;
    scored->found.shift = net->shift;
    scored->found.address = 0;
    scored->found.nwindows = 0;
    scored->found.windows = scored->memory;
    scored->nnumbers = 0;
    scored->full = 0;
    scored->within = 0;

    ngx_webtorch_fields_init(fields, ngx_webtorch_scored_field, scored);
}


static void
ngx_webtorch_scored_field(void *data, const ngx_webtorch_field_t *field)
{
    ngx_webtorch_scored_t       *scored;
    ngx_webtorch_memo_key_t     *key;
    ngx_webtorch_scored_mark_t   mark;

    scored = data;

    if (scored->full) {
        return;
    }

    /* a part that is kept as a whole has no fields that are kept */

    if (scored->within) {
        ngx_webtorch_scored_windows(scored, field);
        return;
    }

    key = &scored->field_key;

    ngx_webtorch_memo_begin(key, NGX_WEBTORCH_SCORED_FIELD | field->place);
    ngx_webtorch_memo_part(key, &field->flags, sizeof(uint32_t));
    ngx_webtorch_memo_part(key, &field->decoded, sizeof(uint32_t));
    ngx_webtorch_memo_part(key, field->name, field->name_len);
    ngx_webtorch_memo_part(key, field->value, field->len);

    if (!ngx_webtorch_scored_known(scored, key)) {
        ngx_webtorch_scored_begin(scored, &mark);
        ngx_webtorch_scored_windows(scored, field);
        ngx_webtorch_scored_end(scored, key, &mark);
    }
}


static void
ngx_webtorch_scored_windows(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_field_t *field)
{
    uint32_t                       i, first;
    ngx_webtorch_windows_t        *windows;
    ngx_webtorch_scored_window_t   traits;

    windows = &scored->windows;

    ngx_webtorch_windows_init(windows, scored->numbers, scored->rows,
                              NGX_WEBTORCH_MAX_NUMBERS);
    ngx_webtorch_windows_field(windows, field);

    /* a long text that repeats itself depends on what is before it */

    if (windows->count > NGX_WEBTORCH_SCORED_NUMBERS - scored->nnumbers) {
        scored->full = 1;
        return;
    }

    traits.trait = ngx_webtorch_traits_hash(field);
    traits.len = (int32_t) field->len;
    traits.alphabet = ngx_webtorch_traits_alphabet(field->value, field->len);

    first = 0;

    for (i = 1; i <= windows->count; i++) {
        if (i == windows->count || scored->rows[i] != scored->rows[first]) {
            ngx_webtorch_scored_window(scored, scored->numbers + first,
                                       i - first, &traits);
            first = i;
        }
    }
}


static void
ngx_webtorch_scored_window(ngx_webtorch_scored_t *scored,
    const int32_t *numbers, uint32_t n,
    const ngx_webtorch_scored_window_t *traits)
{
    ngx_webtorch_scored_window_t  *window;

    if (scored->found.nwindows == NGX_WEBTORCH_MAX_TRAITS) {
        scored->full = 1;
        return;
    }

    window = &scored->memory[scored->found.nwindows++];

    *window = *traits;

    ngx_webtorch_net_window(scored->net, numbers, n, &window->logit,
                            &window->kind);

    window->nnumbers = n;
    window->print = ngx_webtorch_scored_print(numbers, n);

    scored->nnumbers += n;
}


/* the same as of _Windows.prints() in webtorch/detect/_site.py */

static uint64_t
ngx_webtorch_scored_print(const int32_t *numbers, uint32_t n)
{
    uint32_t  i;
    uint64_t  h, sum;

    sum = 0;

    for (i = 0; i < n; i++) {
        h = (uint64_t) numbers[i] * 0x9e3779b97f4a7c15ULL;
        h ^= (uint64_t) ((int64_t) h >> 29);
        sum += h * 0xbf58476d1ce4e5b9ULL;
    }

    return sum | 1;
}


/* adds the windows of a key; returns 0 if they are not known */

static int
ngx_webtorch_scored_known(ngx_webtorch_scored_t *scored,
    ngx_webtorch_memo_key_t *key)
{
    size_t                             len;
    uint32_t                           i, n;
    const ngx_webtorch_scored_kept_t  *kept;

    kept = ngx_webtorch_memo_find(scored->memo, key, &len);

    if (kept == NULL) {
        return 0;
    }

    n = (uint32_t) ((len - offsetof(ngx_webtorch_scored_kept_t, windows))
                    / sizeof(ngx_webtorch_scored_window_t));

    if (n > NGX_WEBTORCH_MAX_TRAITS - scored->found.nwindows) {
        scored->full = 1;
        return 1;
    }

    scored->fields->flaws |= kept->flaws;
    scored->fields->unread |= kept->unread;

    for (i = 0; i < n; i++) {
        scored->memory[scored->found.nwindows + i] = kept->windows[i];
        scored->nnumbers += kept->windows[i].nnumbers;
    }

    scored->found.nwindows += n;
    scored->full |= (scored->nnumbers > NGX_WEBTORCH_SCORED_NUMBERS);

    return 1;
}


/* a part, whose key is set and not known, is read by the caller */

static void
ngx_webtorch_scored_begin(ngx_webtorch_scored_t *scored,
    ngx_webtorch_scored_mark_t *mark)
{
    mark->nwindows = scored->found.nwindows;
    mark->flaws = scored->fields->flaws;
    mark->unread = scored->fields->unread;
    mark->json_lens = scored->fields->json_lens;

    scored->fields->flaws = 0;
    scored->fields->unread = 0;
}


static void
ngx_webtorch_scored_end(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_memo_key_t *key, const ngx_webtorch_scored_mark_t *mark)
{
    /* kept is what has said nothing else: what a body is, also if a header says
       once more what is known */

    if (mark->json_lens == scored->fields->json_lens && !scored->fields->binary)
    {
        ngx_webtorch_scored_keep(scored, key, mark->nwindows);
    }

    scored->fields->flaws |= mark->flaws;
    scored->fields->unread |= mark->unread;
}


/* keeps the windows from index "first" on in the memo */

static void
ngx_webtorch_scored_keep(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_memo_key_t *key, uint32_t first)
{
    uint32_t                     n;
    ngx_webtorch_scored_kept_t  *kept;

    n = scored->found.nwindows - first;
    kept = &scored->kept;

    if (scored->full || n > NGX_WEBTORCH_SCORED_KEPT) {
        return;
    }

    kept->flaws = scored->fields->flaws;
    kept->unread = scored->fields->unread;

    memcpy(kept->windows, scored->memory + first,
           n * sizeof(ngx_webtorch_scored_window_t));

    ngx_webtorch_memo_add(scored->memo, key, kept,
                          offsetof(ngx_webtorch_scored_kept_t, windows)
                          + n * sizeof(ngx_webtorch_scored_window_t));
}


void
ngx_webtorch_scored_path(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *path)
{
    ngx_webtorch_scored_mark_t  mark;

    scored->found.address = ngx_webtorch_traits_address(path);

    ngx_webtorch_memo_begin(&scored->key, NGX_WEBTORCH_SCORED_PATH);
    ngx_webtorch_memo_part(&scored->key, path->data, path->len);

    if (!ngx_webtorch_scored_known(scored, &scored->key)) {
        ngx_webtorch_scored_begin(scored, &mark);
        scored->within = 1;
        ngx_webtorch_fields_path(scored->fields, path);
        scored->within = 0;
        ngx_webtorch_scored_end(scored, &scored->key, &mark);
    }
}


/* each parameter is a part */

void
ngx_webtorch_scored_query(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *query)
{
    const char                  *p, *last, *end;
    ngx_webtorch_part_t          part;
    ngx_webtorch_scored_mark_t   mark;

    last = query->data + query->len;

    for (p = query->data; p < last && !scored->full; p = end + 1) {
        end = memchr(p, '&', (size_t) (last - p));
        end = end ? end : last;

        part.data = p;
        part.len = (size_t) (end - p);

        if (part.len == 0) {
            continue;
        }

        ngx_webtorch_memo_begin(&scored->key, NGX_WEBTORCH_SCORED_QUERY);
        ngx_webtorch_memo_part(&scored->key, part.data, part.len);

        if (!ngx_webtorch_scored_known(scored, &scored->key)) {
            ngx_webtorch_scored_begin(scored, &mark);
            scored->within = 1;
            ngx_webtorch_fields_query(scored->fields, &part);
            scored->within = 0;
            ngx_webtorch_scored_end(scored, &scored->key, &mark);
        }
    }
}


/* a client mostly sends the same headers, else each of them is a part */

void
ngx_webtorch_scored_headers(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_scored_header_t *headers, uint32_t n)
{
    uint32_t                     i;
    ngx_webtorch_memo_key_t     *key;
    ngx_webtorch_scored_mark_t   mark;

    key = &scored->headers_key;

    ngx_webtorch_memo_begin(key, NGX_WEBTORCH_SCORED_HEADERS);

    for (i = 0; i < n; i++) {
        ngx_webtorch_memo_part(key, headers[i].name.data, headers[i].name.len);
        ngx_webtorch_memo_part(key, headers[i].value.data,
                               headers[i].value.len);
    }

    if (ngx_webtorch_scored_known(scored, key)) {
        return;
    }

    ngx_webtorch_scored_begin(scored, &mark);

    for (i = 0; i < n && !scored->full; i++) {
        ngx_webtorch_scored_header(scored, &headers[i].name,
                                   &headers[i].value);
    }

    ngx_webtorch_scored_end(scored, key, &mark);
}


/* each cookie is a part */

static void
ngx_webtorch_scored_header(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value)
{
    const char           *p, *last, *end;
    ngx_webtorch_part_t   part;

    if (name->len != 6 || strncasecmp(name->data, "cookie", 6) != 0) {
        ngx_webtorch_scored_line(scored, name, value);
        return;
    }

    last = value->data + value->len;

    for (p = value->data; p < last && !scored->full; p = end + 1) {
        end = memchr(p, ';', (size_t) (last - p));
        end = end ? end : last;

        part.data = p;
        part.len = (size_t) (end - p);

        if (part.len) {
            ngx_webtorch_scored_line(scored, name, &part);
        }
    }
}


static void
ngx_webtorch_scored_line(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value)
{
    ngx_webtorch_scored_mark_t  mark;

    ngx_webtorch_memo_begin(&scored->key, NGX_WEBTORCH_SCORED_HEADER);
    ngx_webtorch_memo_part(&scored->key, name->data, name->len);
    ngx_webtorch_memo_part(&scored->key, value->data, value->len);

    if (!ngx_webtorch_scored_known(scored, &scored->key)) {
        ngx_webtorch_scored_begin(scored, &mark);
        scored->within = 1;
        ngx_webtorch_fields_header(scored->fields, name, value);
        scored->within = 0;
        ngx_webtorch_scored_end(scored, &scored->key, &mark);
    }
}


/* the fields of a body are more often the same than all of it */

void
ngx_webtorch_scored_body(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *body)
{
    ngx_webtorch_part_t         encoding;
    ngx_webtorch_scored_mark_t  mark;

    if (body->len == 0 || scored->full) {
        return;
    }

    ngx_webtorch_memo_begin(&scored->key, NGX_WEBTORCH_SCORED_BODY);
    ngx_webtorch_memo_part(&scored->key, &scored->fields->json_len,
                           sizeof(size_t));
    ngx_webtorch_memo_part(&scored->key, type->data, type->len);
    ngx_webtorch_memo_part(&scored->key, body->data, body->len);

    if (ngx_webtorch_scored_known(scored, &scored->key)) {
        return;
    }

    memset(&encoding, 0, sizeof(ngx_webtorch_part_t));

    ngx_webtorch_scored_begin(scored, &mark);
    ngx_webtorch_fields_body(scored->fields, type, &encoding, body);

    ngx_webtorch_scored_end(scored, &scored->key, &mark);
}


void
ngx_webtorch_scored_request(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *method)
{
    uint32_t                       first;
    ngx_webtorch_windows_t        *windows;
    ngx_webtorch_memo_key_t       *key;
    ngx_webtorch_scored_window_t   traits;

    key = &scored->key;

    ngx_webtorch_memo_begin(key, NGX_WEBTORCH_SCORED_REQUEST);
    ngx_webtorch_memo_part(key, method->data, method->len);
    ngx_webtorch_memo_part(key, &scored->fields->flaws, sizeof(uint32_t));
    ngx_webtorch_memo_part(key, &scored->fields->unread, sizeof(uint32_t));

    if (scored->full || ngx_webtorch_scored_known(scored, key)) {
        return;
    }

    first = scored->found.nwindows;
    windows = &scored->windows;

    ngx_webtorch_windows_init(windows, scored->numbers, scored->rows,
                              NGX_WEBTORCH_MAX_NUMBERS);
    ngx_webtorch_windows_request(windows, scored->fields, method);

    memset(&traits, 0, sizeof(ngx_webtorch_scored_window_t));

    ngx_webtorch_scored_window(scored, scored->numbers, windows->count,
                               &traits);
    ngx_webtorch_scored_keep(scored, key, first);
}


void
ngx_webtorch_scored_result(const ngx_webtorch_net_t *net,
    const ngx_webtorch_scored_list_t *list,
    const ngx_webtorch_scored_site_t *site,
    ngx_webtorch_scored_result_t *result)
{
    float                                logit, worst, sum;
    uint32_t                             i;
    ngx_webtorch_learned_window_t        asked;
    const ngx_webtorch_scored_window_t  *window;

    memset(result, 0, sizeof(ngx_webtorch_scored_result_t));

    if (list->nwindows == 0) {
        result->score = NAN;
        return;
    }

    asked.address = ngx_webtorch_traits_key(list->address);
    sum = 0;
    worst = 0;

    for (i = 0; i < list->nwindows; i++) {
        window = &list->windows[i];
        logit = window->logit - list->shift;

        if (site->learned) {
            asked.logit = logit;
            asked.print = (int64_t) window->print;
            asked.len = window->len;
            asked.alphabet = (uint32_t) window->alphabet;
            asked.field = ngx_webtorch_scored_trait(window);
            asked.key = ngx_webtorch_scored_key(list, window);

            logit = ngx_webtorch_learned_logit(site->learned, site->marks,
                                               &asked);
        }

        sum += expf(logit);

        if (i == 0 || logit > worst) {
            worst = logit;
            result->window = i;
        }
    }

    /* cppcheck-suppress invalidFunctionArg ; there is a window */
    logit = logf(sum);

    if (site->learned) {
        logit -= ngx_webtorch_learned_threshold(site->learned, site->location,
                                                site->target);
    }

    result->score = 1 / (1 + exp(-(double) logit));

    memcpy(result->kind,
           net->kinds[list->windows[result->window].kind],
           WEBTORCH_KIND_LEN);
}


/* the window of the request as a whole is of no field, but of its address */

static int32_t
ngx_webtorch_scored_trait(const ngx_webtorch_scored_window_t *window)
{
    return window->trait ? ngx_webtorch_traits_key(window->trait) : 0;
}


static int32_t
ngx_webtorch_scored_key(const ngx_webtorch_scored_list_t *list,
    const ngx_webtorch_scored_window_t *window)
{
    return ngx_webtorch_traits_key(window->trait
                                   ? ngx_webtorch_mix(list->address,
                                                      window->trait)
                                   : list->address);
}


int
ngx_webtorch_scored_is_new(const ngx_webtorch_scored_list_t *list,
    const webtorch_learned_t *learned)
{
    uint32_t                             i;
    const ngx_webtorch_scored_window_t  *window;

    if (learned == NULL) {
        return 1;
    }

    for (i = 0; i < list->nwindows; i++) {
        window = &list->windows[i];

        if (!ngx_webtorch_learned_has(learned,
                                      ngx_webtorch_scored_key(list, window))
            || (window->trait
                && !ngx_webtorch_learned_has(learned,
                              -(int64_t) ngx_webtorch_scored_trait(window))))
        {
            return 1;
        }
    }

    return 0;
}


uint32_t
ngx_webtorch_scored_size(const ngx_webtorch_scored_list_t *list)
{
    uint32_t  size;

    for (size = NGX_WEBTORCH_MIN_WINDOWS; size < list->nwindows; size *= 2) {
        /* void */
    }

    return size;
}


void
ngx_webtorch_features_logits(float *row, uint32_t n,
    const ngx_webtorch_scored_list_t *list)
{
    uint32_t  i;

    for (i = 0; i < n; i++) {
        row[i] = (i < list->nwindows)
                 ? list->windows[i].logit - list->shift : -INFINITY;
    }
}


void
ngx_webtorch_features_prints(int64_t *row, uint32_t n,
    const ngx_webtorch_scored_list_t *list)
{
    uint32_t  i;

    for (i = 0; i < n; i++) {
        row[i] = (i < list->nwindows) ? (int64_t) list->windows[i].print : 0;
    }
}


void
ngx_webtorch_features_scored_traits(int32_t *row, uint32_t n,
    const ngx_webtorch_scored_list_t *list)
{
    uint32_t                             i, count;
    const ngx_webtorch_scored_window_t  *window;

    count = (list->nwindows < n) ? list->nwindows : n;

    memset(row, 0, (size_t) NGX_WEBTORCH_TRAIT * n * sizeof(int32_t));

    for (i = 0; i < count; i++) {
        window = &list->windows[i];

        row[i] = ngx_webtorch_scored_key(list, window);
        row[n + i] = ngx_webtorch_scored_trait(window);
        row[2 * n + i] = window->len;
        row[3 * n + i] = window->alphabet;
    }
}
