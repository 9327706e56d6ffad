
#include "ngx_http_webtorch_status_family.h"


/* bytes of a sample beside its name and labels */
#define NGX_HTTP_WEBTORCH_SAMPLE  96


/* a value that is written already, as the sum of a histogram */

typedef struct {
    const char                *suffix;
    ngx_str_t                 *labels;
    const char                *le;        /* or NULL */
} ngx_http_webtorch_sample_t;


static ngx_uint_t ngx_http_webtorch_family_is_wanted(const ngx_str_t *list,
    const u_char *name, size_t len);
static ngx_uint_t ngx_http_webtorch_family_begin(ngx_http_webtorch_family_t *f,
    const char *type, const char *unit, const char *help);
static void ngx_http_webtorch_family_line(ngx_http_webtorch_family_t *f,
    const char *word, size_t len, const char *text);
static void ngx_http_webtorch_family_text(ngx_http_webtorch_family_t *f,
    const char *text);
static u_char *ngx_http_webtorch_sample_begin(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_sample_t *sample);
static void ngx_http_webtorch_sample_put(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_sample_t *sample, uint64_t n);
static void ngx_http_webtorch_sample_end(ngx_http_webtorch_family_t *f,
    u_char *p);
static void ngx_http_webtorch_sample_buckets(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, const uint64_t *buckets, const char **le);


ngx_str_t  ngx_http_webtorch_status_no_labels = ngx_null_string;


const char  *ngx_http_webtorch_status_seconds_le[] = {
    "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005",
    "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0",
    "30.0", "60.0", "+Inf", NULL
};

const char  *ngx_http_webtorch_status_rows_le[] = {
    "1.0", "2.0", "4.0", "8.0", "16.0", "32.0", "64.0", "128.0", "256.0",
    "512.0", "1024.0", "2048.0", "4096.0", "8192.0", "16384.0", "32768.0",
    "65536.0", "+Inf", NULL
};


ngx_uint_t
ngx_http_webtorch_family(ngx_http_webtorch_family_t *f, const char *name,
    const char *type, const char *unit, const char *help)
{
    f->name.data = (u_char *) name;
    f->name.len = ngx_strlen(name);

    return ngx_http_webtorch_family_begin(f, type, unit, help);
}


ngx_uint_t
ngx_http_webtorch_family_custom(ngx_http_webtorch_family_t *f,
    ngx_http_webtorch_status_item_t *item)
{
    const char  *type;

    f->name = item->name;

    switch (item->series->type) {

    case WEBTORCH_METRIC_COUNTER:
        type = "counter";
        break;

    case WEBTORCH_METRIC_HISTOGRAM:
        type = "histogram";
        break;

    default:
        type = "gauge";
    }

    return ngx_http_webtorch_family_begin(f, type, NULL, item->series->help);
}


/* "a,b": these; "-a,-b": all but these; a name may be without "_total" */

static ngx_uint_t
ngx_http_webtorch_family_is_wanted(const ngx_str_t *list, const u_char *name,
    size_t len)
{
    size_t         n;
    u_char        *p, *last, *end;
    ngx_uint_t     others, without;

    if (list->len == 0) {
        return 1;
    }

    others = 1;
    end = list->data + list->len;

    for (p = list->data; p < end; p = last + 1) {
        last = ngx_strlchr(p, end, ',');
        last = last ? last : end;

        without = (p < last && *p == '-');
        p += without;
        n = last - p;

        if ((n == len || (n + 6 == len
                          && ngx_memcmp(name + n, "_total", 6) == 0))
            && ngx_memcmp(p, name, n) == 0)
        {
            return !without;
        }

        if (!without && n) {
            others = 0;
        }
    }

    return others;
}


static ngx_uint_t
ngx_http_webtorch_family_begin(ngx_http_webtorch_family_t *f, const char *type,
    const char *unit, const char *help)
{
    size_t  len;

    len = f->name.len;

    if (!ngx_http_webtorch_family_is_wanted(&f->wanted->metrics, f->name.data,
                                            len))
    {
        return 0;
    }

    /* OpenMetrics: "_total" is part of the sample's name alone */

    if (f->wanted->openmetrics && type[0] == 'c' && len > 6) {
        len -= 6;
    }

    ngx_http_webtorch_family_line(f, "TYPE", len, type);

    if (f->wanted->openmetrics && unit) {
        ngx_http_webtorch_family_line(f, "UNIT", len, unit);
    }

    if (*help) {
        ngx_http_webtorch_family_line(f, "HELP", len, help);
    }

    return 1;
}


static void
ngx_http_webtorch_family_line(ngx_http_webtorch_family_t *f, const char *word,
    size_t len, const char *text)
{
    ngx_http_webtorch_status_puts(f->w, "# ");
    ngx_http_webtorch_status_puts(f->w, word);
    ngx_http_webtorch_status_puts(f->w, " ");
    ngx_http_webtorch_status_write(f->w, f->name.data, len);
    ngx_http_webtorch_status_puts(f->w, " ");
    ngx_http_webtorch_family_text(f, text);
    ngx_http_webtorch_status_puts(f->w, "\n");
}


/* in the format 0.0.4 a quote is escaped in labels alone */

static void
ngx_http_webtorch_family_text(ngx_http_webtorch_family_t *f, const char *text)
{
    size_t  len;

    for ( ;; ) {
        len = f->wanted->openmetrics ? ngx_strlen(text) : strcspn(text, "\"");

        ngx_http_webtorch_status_escape(f->w, text, len);

        text += len;

        if (*text == '\0') {
            return;
        }

        ngx_http_webtorch_status_write(f->w, text++, 1);
    }
}


static u_char *
ngx_http_webtorch_sample_begin(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_sample_t *sample)
{
    u_char      *p;
    ngx_str_t   *labels;

    labels = sample->labels;

    p = ngx_http_webtorch_status_reserve(f->w, f->name.len + labels->len
                                               + NGX_HTTP_WEBTORCH_SAMPLE);

    p = ngx_cpymem(p, f->name.data, f->name.len);
    p = ngx_cpymem(p, sample->suffix, ngx_strlen(sample->suffix));

    if (labels->len || sample->le) {
        *p++ = '{';
        p = ngx_cpymem(p, labels->data, labels->len);

        if (sample->le) {

            if (labels->len) {
                *p++ = ',';
            }

            p = ngx_cpymem(p, "le=\"", 4);
            p = ngx_cpymem(p, sample->le, ngx_strlen(sample->le));
            *p++ = '"';
        }

        *p++ = '}';
    }

    *p++ = ' ';

    return p;
}


static void
ngx_http_webtorch_sample_put(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_sample_t *sample, uint64_t n)
{
    u_char  *p;

    p = ngx_http_webtorch_sample_begin(f, sample);

    ngx_http_webtorch_sample_end(f, ngx_http_webtorch_status_digits(p, n));
}


static void
ngx_http_webtorch_sample_end(ngx_http_webtorch_family_t *f, u_char *p)
{
    *p++ = '\n';
    f->w->buf->last = p;
}


void
ngx_http_webtorch_sample(ngx_http_webtorch_family_t *f, ngx_str_t *labels,
    uint64_t n)
{
    ngx_http_webtorch_sample_t  sample = { "", labels, NULL };

    ngx_http_webtorch_sample_put(f, &sample, n);
}


void
ngx_http_webtorch_sample_seconds(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, uint64_t usec)
{
    u_char                      *p;
    ngx_http_webtorch_sample_t   sample = { "", labels, NULL };

    p = ngx_http_webtorch_sample_begin(f, &sample);

    ngx_http_webtorch_sample_end(f, ngx_http_webtorch_status_seconds(p, usec));
}


void
ngx_http_webtorch_sample_number(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, double n)
{
    u_char                      *p;
    ngx_http_webtorch_sample_t   sample = { "", labels, NULL };

    p = ngx_http_webtorch_sample_begin(f, &sample);

    ngx_http_webtorch_sample_end(f, ngx_http_webtorch_status_number(p, n));
}


void
ngx_http_webtorch_sample_histogram(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, const ngx_webtorch_metrics_seconds_t *seconds)
{
    u_char                      *p;
    ngx_http_webtorch_sample_t   sum = { "_sum", labels, NULL };

    ngx_http_webtorch_sample_buckets(f, labels, seconds->buckets,
                                     ngx_http_webtorch_status_seconds_le);

    p = ngx_http_webtorch_sample_begin(f, &sum);

    ngx_http_webtorch_sample_end(f, ngx_http_webtorch_status_seconds(p,
                                                             seconds->sum));
}


void
ngx_http_webtorch_sample_rows(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, const uint64_t *rows, uint64_t n)
{
    ngx_http_webtorch_sample_t  sum = { "_sum", labels, NULL };

    ngx_http_webtorch_sample_buckets(f, labels, rows,
                                     ngx_http_webtorch_status_rows_le);
    ngx_http_webtorch_sample_put(f, &sum, n);
}


/* the count is that of the buckets, which a worker changes meanwhile */

static void
ngx_http_webtorch_sample_buckets(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, const uint64_t *buckets, const char **le)
{
    uint64_t                     count;
    ngx_http_webtorch_sample_t   sample = { "_bucket", labels, NULL };

    count = 0;

    for ( /* void */ ; *le; le++, buckets++) {
        count += *buckets;
        sample.le = *le;

        ngx_http_webtorch_sample_put(f, &sample, count);
    }

    sample.suffix = "_count";
    sample.le = NULL;

    ngx_http_webtorch_sample_put(f, &sample, count);
}


void
ngx_http_webtorch_sample_bounds(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, ngx_http_webtorch_status_item_t *item)
{
    u_char                      *p;
    double                       sum;
    const char                  *le[NGX_WEBTORCH_METRICS_BOUNDS + 2];
    uint32_t                     i, n;
    u_char                       text[NGX_WEBTORCH_METRICS_BOUNDS]
                                     [NGX_HTTP_WEBTORCH_STATUS_NUMBER + 1];
    ngx_http_webtorch_sample_t   sample = { "_sum", labels, NULL };

    n = item->series->nbounds;

    for (i = 0; i < n; i++) {
        *ngx_http_webtorch_status_number(text[i], item->series->bounds[i])
            = '\0';
        le[i] = (char *) text[i];
    }

    le[n] = "+Inf";
    le[n + 1] = NULL;

    ngx_http_webtorch_sample_buckets(f, labels, item->cells, le);

    sum = ngx_webtorch_metrics_double(item->cells[n + 1]);
    p = ngx_http_webtorch_sample_begin(f, &sample);

    ngx_http_webtorch_sample_end(f, ngx_http_webtorch_status_number(p, sum));
}


ngx_str_t *
ngx_http_webtorch_label(ngx_str_t *labels, u_char *buf, const char *name,
    ngx_str_t *value)
{
    size_t  len;

    len = ngx_min(value->len, 2 * NGX_WEBTORCH_METRICS_KEY);

    labels->data = buf;
    labels->len = ngx_sprintf(buf, "%s=\"%*s\"", name, len, value->data) - buf;

    return labels;
}
