
/*
 * Tables in JSON as records, [{"age": 31, "job": "cook"}, ...]: an object for
 * each row.
 */


#ifndef _NGX_WEBTORCH_JSON_RECORDS_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_RECORDS_HPP_INCLUDED_


#include "ngx_webtorch_json_read.hpp"


namespace webtorch::json {


/* returns whether a document is an array that begins with an object */
bool is_records(const element &root);

/* decodes such a document into rows from the sink; -1: err is set */
int decode_records(const Decoder &d, const array &records);

/* returns the bytes of names and marks in records, beside those of elements */
size_t records_bound(const webtorch_spec_t *specs, uint32_t n, uint32_t rows);

/* writes n tensors as records; returns the end */
char *write_records(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, uint32_t rows);


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_RECORDS_HPP_INCLUDED_ */
