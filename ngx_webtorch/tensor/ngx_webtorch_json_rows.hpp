
/*
 * Plain rows in JSON: short nested arrays of numbers for a function of one
 * tensor whose shape is fixed.
 */


#ifndef _NGX_WEBTORCH_JSON_ROWS_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_ROWS_HPP_INCLUDED_


#include "ngx_webtorch_json_read.hpp"


namespace webtorch::json {


/*
 * Decodes plain rows into those of the sink.  1: the text is another one, or
 * has an error, nothing is reserved; -1: err is set.
 */
int decode_rows(const Decoder &d, const char *text);


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_ROWS_HPP_INCLUDED_ */
