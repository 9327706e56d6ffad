
/*
 * Traits: which field of a site a window is of, how long its value is, and of
 * which characters.  A model learns from them what a site's own fields hold.
 */


#ifndef _NGX_WEBTORCH_TRAITS_H_INCLUDED_
#define _NGX_WEBTORCH_TRAITS_H_INCLUDED_


#include "ngx_webtorch_field.h"
#include "ngx_webtorch_text.h"


/* numbers of a window */
#define NGX_WEBTORCH_TRAIT         4

/* windows that have traits; a request with more of them is not scored */
#define NGX_WEBTORCH_MAX_TRAITS    4096

/* bytes of the address and of all names of a request */
#define NGX_WEBTORCH_NAMES_SIZE    16384


typedef struct {
    int32_t           key;                /* of the field at its address */
    int32_t           field;              /* of the field at any address */
    int32_t           len;                /* of the value, in bytes */
    int32_t           alphabet;           /* a bit for each kind of character */
} ngx_webtorch_trait_t;


typedef struct {
    uint32_t              address;        /* a hash */
    uint32_t              count;
    ngx_webtorch_trait_t  current;        /* of the field that is read */
    ngx_webtorch_trait_t  windows[NGX_WEBTORCH_MAX_TRAITS];
} ngx_webtorch_traits_t;


/*
 * The address, then for each field the number of its first window, a blank and
 * its name; a zero after each.  What does not fit is left out.
 */

typedef struct {
    size_t            len;
    char              data[NGX_WEBTORCH_NAMES_SIZE];
} ngx_webtorch_names_t;


/* the path as received; in its address identifiers are of no account */
void ngx_webtorch_traits_init(ngx_webtorch_traits_t *traits,
    const ngx_webtorch_part_t *path);

/* the field whose windows follow */
void ngx_webtorch_traits_field(ngx_webtorch_traits_t *traits,
    const ngx_webtorch_field_t *field);

/* a hash of the address */
uint32_t ngx_webtorch_traits_address(const ngx_webtorch_part_t *path);

/* a hash of its place, what it is, and its name */
uint32_t ngx_webtorch_traits_hash(const ngx_webtorch_field_t *field);

/* a bit for each kind of character */
int32_t ngx_webtorch_traits_alphabet(const unsigned char *p, size_t len);

/* the key of a hash, which is not 0 */

static inline int32_t
ngx_webtorch_traits_key(uint32_t h)
{
    h &= 0x7fffffff;

    return h ? (int32_t) h : 1;
}

void ngx_webtorch_traits_window(ngx_webtorch_traits_t *traits,
    uint32_t window);

/* the window of the request as a whole follows, whose field is the address */
void ngx_webtorch_traits_request(ngx_webtorch_traits_t *traits);

void ngx_webtorch_names_init(ngx_webtorch_names_t *names,
    const ngx_webtorch_part_t *path);
void ngx_webtorch_names_field(ngx_webtorch_names_t *names, uint32_t window,
    const ngx_webtorch_field_t *field);

/* rows of NGX_WEBTORCH_TRAIT times n elements, of n bytes; then zeros */
void ngx_webtorch_features_traits(int32_t *row, uint32_t n,
    const ngx_webtorch_traits_t *traits);
void ngx_webtorch_features_names(unsigned char *row, uint32_t n,
    const ngx_webtorch_names_t *names);


#endif /* _NGX_WEBTORCH_TRAITS_H_INCLUDED_ */
