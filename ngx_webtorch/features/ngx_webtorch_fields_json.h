
#ifndef _NGX_WEBTORCH_FIELDS_JSON_H_INCLUDED_
#define _NGX_WEBTORCH_FIELDS_JSON_H_INCLUDED_


#include "ngx_webtorch_fields.h"


/*
 * Reads JSON, also several values after each other (NDJSON), comments and
 * single quotes: what parsers of any kind accept.  Each string is a field, each
 * unusual key is one, and numbers are none.
 */
void ngx_webtorch_fields_json(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *data, size_t len);

/* whether it is one value of JSON by its grammar, less deep than the bound */
int ngx_webtorch_json_is_valid(const unsigned char *data, size_t len);


#endif /* _NGX_WEBTORCH_FIELDS_JSON_H_INCLUDED_ */
