
/* Reads a request as fields: the value of each name, at each place. */


#ifndef _NGX_WEBTORCH_FIELDS_H_INCLUDED_
#define _NGX_WEBTORCH_FIELDS_H_INCLUDED_


#include "ngx_webtorch_decoding.h"
#include "ngx_webtorch_field.h"
#include "ngx_webtorch_text.h"


/*
 * A request that is read.  It is large, and has no pointers to memory of its
 * own: one of them serves all requests of a thread.
 */

typedef struct ngx_webtorch_fields_s  ngx_webtorch_fields_t;

struct ngx_webtorch_fields_s {
    ngx_webtorch_field_pt  handler;
    void                  *data;

    /* reads a value that is a document of its own; returns 0 if it is none */
    int                  (*format)(ngx_webtorch_fields_t *fields,
                               const ngx_webtorch_field_t *field);

    /* memory for a body that is inflated or in UTF-16; may be NULL */
    unsigned char         *work;
    size_t                 work_size;

    uint32_t               unread;        /* NGX_WEBTORCH_UNREAD_... */
    uint32_t               flaws;         /* NGX_WEBTORCH_FLAW_... */
    uint32_t               count;         /* of fields */
    uint32_t               numbers;       /* values that are no fields */
    uint32_t               nested;
    uint32_t               binary;        /* the body is not text; unread */
    uint32_t               json_lens;     /* headers that have set this: */
    size_t                 json_len;      /* of a body that goes on with tensors;
                                             0: none */

    size_t                 name_len;
    char                   name[NGX_WEBTORCH_FIELD_NAME];

    unsigned char          value[NGX_WEBTORCH_FIELD_NESTED]
                                [NGX_WEBTORCH_FIELD_PIECE];
    unsigned char          scratch[NGX_WEBTORCH_FIELD_PIECE];
};


/* a value as it is in the request */

typedef struct {
    ngx_webtorch_field_place_e   place;
    ngx_webtorch_coding_e  coding;
    uint32_t               flags;
    const unsigned char   *data;
    size_t                 len;
} ngx_webtorch_raw_t;


void ngx_webtorch_fields_init(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_pt handler, void *data);

/* the target as received, in the order in which they are called */
void ngx_webtorch_fields_path(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *path);
void ngx_webtorch_fields_query(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *query);

void ngx_webtorch_fields_header(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value);

/* type and encoding: of the headers Content-Type and Content-Encoding */
void ngx_webtorch_fields_body(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *encoding,
    const ngx_webtorch_part_t *body);


/* for readers of formats */

/* decodes a value, and calls the handler for each of its pieces */
void ngx_webtorch_fields_value(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_raw_t *raw);

/* a value without a coding */
void ngx_webtorch_fields_plain(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, uint32_t flags, const unsigned char *data,
    size_t len);

/* a name; calls the handler only if it is no usual one */
void ngx_webtorch_fields_key(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, ngx_webtorch_coding_e coding,
    const unsigned char *data, size_t len);

/* the value of the current name, which may be the charset of a form */
void ngx_webtorch_fields_charset(ngx_webtorch_fields_t *fields,
    const unsigned char *data, size_t len);

/*
 * Appends to the name, after a dot if there is something before; returns the
 * length to which it is set back by ngx_webtorch_fields_leave().
 */
size_t ngx_webtorch_fields_enter(ngx_webtorch_fields_t *fields,
    ngx_webtorch_coding_e coding, const unsigned char *data, size_t len);

static inline void
ngx_webtorch_fields_leave(ngx_webtorch_fields_t *fields, size_t len)
{
    fields->name_len = len;
}

/* parameters: "name=value", with "&" between */
void ngx_webtorch_fields_form(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *data, size_t len);

/*
 * The same of what looks like no text: only what has a usual name is read, as a
 * file that is sent as a form has a "&" somewhere.
 */
void ngx_webtorch_fields_form_bytes(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *data, size_t len);


#endif /* _NGX_WEBTORCH_FIELDS_H_INCLUDED_ */
