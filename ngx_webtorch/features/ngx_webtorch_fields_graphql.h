
#ifndef _NGX_WEBTORCH_FIELDS_GRAPHQL_H_INCLUDED_
#define _NGX_WEBTORCH_FIELDS_GRAPHQL_H_INCLUDED_


#include "ngx_webtorch_fields.h"


/*
 * Reads a document of GraphQL: strings and comments are fields, names and
 * punctuation are none.  Returns 0, and calls no handler, if it is not GraphQL.
 * coding: of the document, JSON or none.
 */
int ngx_webtorch_fields_graphql(ngx_webtorch_fields_t *fields,
    ngx_webtorch_coding_e coding, const unsigned char *data, size_t len);


#endif /* _NGX_WEBTORCH_FIELDS_GRAPHQL_H_INCLUDED_ */
