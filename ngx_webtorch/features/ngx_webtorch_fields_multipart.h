
#ifndef _NGX_WEBTORCH_FIELDS_MULTIPART_H_INCLUDED_
#define _NGX_WEBTORCH_FIELDS_MULTIPART_H_INCLUDED_


#include "ngx_webtorch_fields.h"


/*
 * Reads multipart.  Names, names of files, further headers and the content of
 * parts are fields.  type: the value of Content-Type.
 */
void ngx_webtorch_fields_multipart(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const unsigned char *data, size_t len);


#endif /* _NGX_WEBTORCH_FIELDS_MULTIPART_H_INCLUDED_ */
