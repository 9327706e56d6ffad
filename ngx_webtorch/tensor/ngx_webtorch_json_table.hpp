
/*
 * Plain tables in JSON: records whose keys are the same text in the same order
 * in all of them, as programs write them.
 */


#ifndef _NGX_WEBTORCH_JSON_TABLE_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_TABLE_HPP_INCLUDED_


#include "ngx_webtorch_json_read.hpp"


namespace webtorch::json {


/*
 * Decodes a plain table into rows from the sink.  1: the text is another one,
 * or has an error, nothing is reserved; -1: err is set.
 */
int decode_table(const Decoder &d, const char *text);


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_TABLE_HPP_INCLUDED_ */
