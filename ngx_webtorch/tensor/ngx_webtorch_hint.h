
/* Errors of bodies that say more than a parser does. */


#ifndef _NGX_WEBTORCH_HINT_H_INCLUDED_
#define _NGX_WEBTORCH_HINT_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


/*
 * Sets the error of a text that is not JSON and returns -1.  The format, for
 * example "JSON", contains the text; the reason is the parser's, for what is
 * not found here.
 */
int ngx_webtorch_error_json(ngx_webtorch_error_t *err, const char *format,
    const char *text, size_t len, const char *reason);

/*
 * Returns 1 if a text begins like JSON, and not like Torch7's serialization,
 * which begins with a digit.
 */
int ngx_webtorch_hint_is_json(const char *text, size_t len);

/*
 * If a body that could not be decoded looks like one of another format than
 * the codec's, the text of the error says so.
 */
void ngx_webtorch_hint_format(ngx_webtorch_error_t *err,
    const ngx_webtorch_codec_t *codec, const char *body, size_t len);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_HINT_H_INCLUDED_ */
