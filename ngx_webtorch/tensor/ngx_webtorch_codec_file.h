
/*
 * Formats of files, for functions of one tensor of bytes.  They are not in the
 * table of formats, as no answer has them.
 */


#ifndef _NGX_WEBTORCH_CODEC_FILE_H_INCLUDED_
#define _NGX_WEBTORCH_CODEC_FILE_H_INCLUDED_


#include "ngx_webtorch_codec.h"


/* the body is a row */
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_file;

/* each file of a form is a row; needs layout->type */
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_files;


/* returns 1 if rows of a function can be files */
int ngx_webtorch_codec_takes_files(const webtorch_schema_t *schema);

/* finds the format of files by a Content-Type header; NULL: none */
const ngx_webtorch_codec_t *ngx_webtorch_codec_of_files(const char *type,
    size_t len);


#endif /* _NGX_WEBTORCH_CODEC_FILE_H_INCLUDED_ */
