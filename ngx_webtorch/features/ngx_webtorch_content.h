
#ifndef _NGX_WEBTORCH_CONTENT_H_INCLUDED_
#define _NGX_WEBTORCH_CONTENT_H_INCLUDED_


#include "ngx_webtorch_fields.h"


/* bytes of a body that are checked for text */
#define NGX_WEBTORCH_BODY_LOOK  1024


typedef enum {
    NGX_WEBTORCH_TYPE_NONE = 0,
    NGX_WEBTORCH_TYPE_FORM,
    NGX_WEBTORCH_TYPE_JSON,
    NGX_WEBTORCH_TYPE_XML,
    NGX_WEBTORCH_TYPE_MULTIPART,
    NGX_WEBTORCH_TYPE_GRAPHQL,
    NGX_WEBTORCH_TYPE_TEXT,
    NGX_WEBTORCH_TYPE_BINARY
} ngx_webtorch_type_e;


/* by the value of Content-Type */
ngx_webtorch_type_e ngx_webtorch_content_type(
    const ngx_webtorch_part_t *header);

/* by the bytes, of which there is one at least */
ngx_webtorch_type_e ngx_webtorch_content_look(const ngx_webtorch_part_t *body);

/* images, archives, tensors and other bytes that are not text */
int ngx_webtorch_content_is_binary(const unsigned char *p, size_t len);

/* a format of these by its first bytes, which are letters for some of them */
int ngx_webtorch_content_is_known(const unsigned char *p, size_t len);

/* reads JSON or XML; returns 0 if the part of a body is neither */
int ngx_webtorch_content_read(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *body);

/*
 * Whether the charsets of a type are read: a superset of ASCII, UTF-16, or
 * none.
 */
int ngx_webtorch_content_charset(const ngx_webtorch_part_t *type);

/* whether a text has a word, which is in lower case */
int ngx_webtorch_content_contains(const ngx_webtorch_part_t *text,
    const char *word);


#endif /* _NGX_WEBTORCH_CONTENT_H_INCLUDED_ */
