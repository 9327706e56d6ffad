
#ifndef _NGX_WEBTORCH_FIELDS_XML_H_INCLUDED_
#define _NGX_WEBTORCH_FIELDS_XML_H_INCLUDED_


#include "ngx_webtorch_fields.h"


/*
 * Reads XML: text, values of attributes, comments, instructions, and the
 * declarations of a document type, whose entities are the way of XXE.
 */
void ngx_webtorch_fields_xml(ngx_webtorch_fields_t *fields,
    const unsigned char *data, size_t len);


#endif /* _NGX_WEBTORCH_FIELDS_XML_H_INCLUDED_ */
