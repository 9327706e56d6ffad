
/*
 * Forms: bodies of multipart/form-data (RFC 7578, RFC 2046), read in place.
 *
 * Boundaries and header lines end with CR LF.  What browsers and HTTP libraries
 * send is read, what two readers could understand differently is an error: a
 * boundary followed by other text on its line, a parameter that is given twice,
 * a folded header line, a transfer encoding.
 */


#ifndef _NGX_WEBTORCH_MULTIPART_H_INCLUDED_
#define _NGX_WEBTORCH_MULTIPART_H_INCLUDED_


#include "ngx_webtorch_error.h"


#ifdef __cplusplus
extern "C" {
#endif


/* bytes of a part's header lines, with the name and the filename */
#define NGX_WEBTORCH_MULTIPART_HEADERS  8192


/* returns 1 if a Content-Type header is that of a form */
int ngx_webtorch_multipart_is_form(const char *type, size_t len);

/*
 * Begins to read a form, whose max_parts may be changed after the call.  The
 * body must stay where it is while the form is read; -1: err is set.
 */
int ngx_webtorch_multipart_open(webtorch_form_t *form, const char *type,
    size_t type_len, const char *body, size_t len, ngx_webtorch_error_t *err);

/* reads the next part; 1: part is set, 0: the form has ended, -1: err is set */
int ngx_webtorch_multipart_next(webtorch_form_t *form, webtorch_part_t *part,
    ngx_webtorch_error_t *err);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_MULTIPART_H_INCLUDED_ */
