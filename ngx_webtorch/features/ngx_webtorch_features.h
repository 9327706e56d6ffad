
/*
 * What models see of requests, docs/features.md has the columns.  Like codecs,
 * this knows neither nginx nor Python, and allocates nothing.
 */


#ifndef _NGX_WEBTORCH_FEATURES_H_INCLUDED_
#define _NGX_WEBTORCH_FEATURES_H_INCLUDED_


#include "ngx_webtorch_tensor.h"


/* of the text, and what is looked at of each of its parts */
#define NGX_WEBTORCH_TEXT_SIZE      16384

#define NGX_WEBTORCH_NGRAM          4     /* bytes of the longest one */
#define NGX_WEBTORCH_MAX_NGRAMS     (NGX_WEBTORCH_NGRAM * NGX_WEBTORCH_TEXT_SIZE)

#define NGX_WEBTORCH_CLASSES        16    /* of characters */
#define NGX_WEBTORCH_KINDS          16    /* of targets */

#define NGX_WEBTORCH_ID_LEN         16

/* of a request: its path, parameters, and what is none */
#define NGX_WEBTORCH_SEGMENTS       64
#define NGX_WEBTORCH_MAX_TOKENS     NGX_WEBTORCH_TEXT_SIZE
#define NGX_WEBTORCH_MIN_TOKENS     128   /* of a row as long as it needs */
#define NGX_WEBTORCH_TOKEN          5     /* n-grams that end with a token */
#define NGX_WEBTORCH_PARAMETER      3     /* numbers that tell of one */

/* where a text is cut into parameters, names and values; more are not cut */
#define NGX_WEBTORCH_MARKS          256

/* how long a client is new, and counts as one that is there, in milliseconds */
#define NGX_WEBTORCH_CLIENT_ACTIVE  60000


typedef enum {
    NGX_WEBTORCH_FEATURE_NGRAMS = 0,
    NGX_WEBTORCH_FEATURE_BYTES,
    NGX_WEBTORCH_FEATURE_TOKENS,
    NGX_WEBTORCH_FEATURE_SEGMENTS,
    NGX_WEBTORCH_FEATURE_PARAMETERS,
    NGX_WEBTORCH_FEATURE_REQUEST,
    NGX_WEBTORCH_FEATURE_CLIENT,
    NGX_WEBTORCH_FEATURE_SITE,
    NGX_WEBTORCH_FEATURE_OUTCOME,
    NGX_WEBTORCH_FEATURE_ID,
    NGX_WEBTORCH_FEATURE_KEY,
    NGX_WEBTORCH_NFEATURES
} ngx_webtorch_feature_e;


/* columns of request, by their numbers where more than one place knows them */

typedef enum {
    NGX_WEBTORCH_REQUEST_HTTP = 6,
    NGX_WEBTORCH_REQUEST_TLS = 9,
    NGX_WEBTORCH_REQUEST_HOST,
    NGX_WEBTORCH_REQUEST_HOST_IS_ADDRESS,
    NGX_WEBTORCH_REQUEST_USER_AGENT,
    NGX_WEBTORCH_REQUEST_ACCEPT,
    NGX_WEBTORCH_REQUEST_ACCEPT_LANGUAGE,
    NGX_WEBTORCH_REQUEST_ACCEPT_ENCODING,
    NGX_WEBTORCH_REQUEST_REFERER,
    NGX_WEBTORCH_REQUEST_COOKIE,
    NGX_WEBTORCH_REQUEST_AUTHORIZATION,
    NGX_WEBTORCH_REQUEST_LENGTHS,
    NGX_WEBTORCH_REQUEST_CLASSES = 29,
    NGX_WEBTORCH_REQUEST_COLUMNS
        = NGX_WEBTORCH_REQUEST_CLASSES + NGX_WEBTORCH_CLASSES
} ngx_webtorch_request_column_e;

#define NGX_WEBTORCH_CLIENT_COLUMNS   (15 + NGX_WEBTORCH_KINDS)
#define NGX_WEBTORCH_SITE_COLUMNS     8
#define NGX_WEBTORCH_OUTCOME_COLUMNS  12


typedef struct {
    const char          *data;            /* may be NULL if len is 0 */
    size_t               len;
} ngx_webtorch_part_t;


/* the parts as they were sent, and the text that was made of them */

typedef struct {
    ngx_webtorch_part_t  path;
    ngx_webtorch_part_t  query;
    ngx_webtorch_part_t  body;

    uint32_t             escapes;
    uint32_t             double_escapes;

    /* offsets in the text: of query and body, and of "&" and "=" as sent */
    size_t               query_offset;
    size_t               body_offset;
    uint32_t             nmarks;
    uint16_t             marks[NGX_WEBTORCH_MARKS];

    size_t               len;
    unsigned char        text[NGX_WEBTORCH_TEXT_SIZE];
} ngx_webtorch_text_features_t;


typedef struct {
    uint32_t             method;          /* column of request */
    uint32_t             http;            /* likewise */
    uint32_t             flags;           /* a bit for each column from tls on */
    uint64_t             headers;         /* their number */
    uint64_t             body;            /* bytes */
    uint64_t             user_agent;
    uint64_t             cookie;
} ngx_webtorch_request_features_t;


/* what is known of a request when it comes, to those who count */

typedef struct {
    uint32_t             url;             /* hash */
    uint32_t             kind;
    unsigned             query:1;
    unsigned             asset:1;
    unsigned             body:1;
    unsigned             cookie:1;
} ngx_webtorch_arrival_t;


/* times are in milliseconds, of a clock that all processes share */

typedef struct {
    uint64_t             first;
    uint64_t             last;
    uint64_t             urls;            /* bits of those in this window */
    uint64_t             old_urls;        /* and in the one before */
    uint32_t             requests;
    uint16_t             window;          /* requests in this window */
    uint16_t             old_window;
    float                rate_fast;       /* requests per second */
    float                rate_slow;
    float                gap;             /* columns of client as they are */
    float                gap_mean;
    float                gap_deviation;
    float                queries;
    float                assets;
    float                errors;
    float                failures;
    float                bodies;
    float                cookies;
    uint32_t             answers;
    float                kinds[NGX_WEBTORCH_KINDS];
} ngx_webtorch_client_t;


typedef struct {
    uint64_t             last;
    uint64_t             requests;
    uint64_t             answers;
    uint32_t             clients;         /* that are active */
    float                rate_fast;
    float                rate_slow;
    float                news;
    float                errors;
    float                failures;
    float                time;
    float                denied;
} ngx_webtorch_site_t;


typedef struct {
    uint32_t             status;
    uint64_t             time;            /* milliseconds */
    uint64_t             sent;            /* bytes */
    uint64_t             upstream_time;   /* milliseconds */
    float                score;
    unsigned             upstream:1;
    unsigned             denied:1;
    unsigned             scored:1;
} ngx_webtorch_outcome_t;


/* a text that is cut into tokens */

typedef struct {
    uint32_t             count;
    int32_t              ngrams[NGX_WEBTORCH_TOKEN][NGX_WEBTORCH_MAX_TOKENS];
    uint8_t              segments[NGX_WEBTORCH_MAX_TOKENS];
    int32_t              parameters[NGX_WEBTORCH_PARAMETER]
                                   [NGX_WEBTORCH_SEGMENTS];
} ngx_webtorch_tokens_t;


/*
 * The feature that an input of a handler asks for; -1: none of those in the
 * mask, or not in this dtype and shape, the error says why.
 */
int ngx_webtorch_feature_find(const webtorch_spec_t *spec, uint32_t mask,
    char *error, size_t len);

/* makes the text of the parts */
void ngx_webtorch_features_text(ngx_webtorch_text_features_t *text);

void ngx_webtorch_features_ngrams(void *row, int32_t dtype, uint32_t n,
    const ngx_webtorch_text_features_t *text);
void ngx_webtorch_features_bytes(void *row, uint32_t n,
    const ngx_webtorch_text_features_t *text);

void ngx_webtorch_cut(ngx_webtorch_tokens_t *tokens,
    const ngx_webtorch_text_features_t *text);

/* of a row that has room for all; there are few sizes, so batches are large */
uint32_t ngx_webtorch_tokens_size(const ngx_webtorch_tokens_t *tokens);

void ngx_webtorch_features_tokens(int32_t *row, uint32_t n,
    const ngx_webtorch_tokens_t *tokens);
void ngx_webtorch_features_segments(int64_t *row, uint32_t n,
    const ngx_webtorch_tokens_t *tokens);
void ngx_webtorch_features_parameters(int32_t *row,
    const ngx_webtorch_tokens_t *tokens);

/* k is the number of columns here and below */
void ngx_webtorch_features_request(float *row, uint32_t k,
    const ngx_webtorch_request_features_t *request,
    const ngx_webtorch_text_features_t *text);
void ngx_webtorch_features_client(float *row, uint32_t k,
    const ngx_webtorch_client_t *client);
void ngx_webtorch_features_site(float *row, uint32_t k,
    const ngx_webtorch_site_t *site);
void ngx_webtorch_features_outcome(float *row, uint32_t k,
    const ngx_webtorch_outcome_t *outcome);

/* bytes of $request_id, zeros if the text is not one */
void ngx_webtorch_features_id(unsigned char *row, const char *id, size_t len);

/* a number of a client's key, not negative */
int64_t ngx_webtorch_features_key(const char *key, size_t len);

/* of the target in the parts; the rest of it is the caller's */
void ngx_webtorch_arrival_target(ngx_webtorch_arrival_t *arrival,
    const ngx_webtorch_text_features_t *text);

/* a client that is new is all zeros */
void ngx_webtorch_client_arrive(ngx_webtorch_client_t *client, uint64_t now,
    const ngx_webtorch_arrival_t *arrival);
void ngx_webtorch_client_finish(ngx_webtorch_client_t *client,
    const ngx_webtorch_outcome_t *outcome);

/* after the client has */
void ngx_webtorch_site_arrive(ngx_webtorch_site_t *site, uint64_t now,
    const ngx_webtorch_client_t *client);
void ngx_webtorch_site_finish(ngx_webtorch_site_t *site,
    const ngx_webtorch_outcome_t *outcome);


#endif /* _NGX_WEBTORCH_FEATURES_H_INCLUDED_ */
