
/*
 * The inputs of a request of the Open Inference Protocol.
 */


#ifndef _NGX_WEBTORCH_OIP_INPUT_HPP_INCLUDED_
#define _NGX_WEBTORCH_OIP_INPUT_HPP_INCLUDED_


#include "ngx_webtorch_oip_parts.hpp"

#include <string_view>


namespace webtorch::oip {


/*
 * Inputs by the schema's order.  The elements of an input are in arrays[], or
 * in strings[] if it is a binary tensor of strings, or else in json[].
 */

struct Inputs {
    ngx_webtorch_array_t  arrays[WEBTORCH_MAX_TENSORS];
    element               json[WEBTORCH_MAX_TENSORS];
    std::string_view      strings[WEBTORCH_MAX_TENSORS];
    uint32_t              seen;           /* bits of inputs */
    std::string_view      rest;           /* binary tensors not yet taken */
};


/*
 * Parses the member "inputs", takes the binary tensors off inputs->rest, and
 * adds the bytes of strings to layout->text; -1: err is set.
 */
int parse_inputs(const Decoder &d, const object &root, Inputs *inputs);

/* copies or converts all inputs to the sink's rows; -1: err is set */
int read_inputs(const Decoder &d, const Inputs &inputs);


} /* namespace webtorch::oip */


#endif /* _NGX_WEBTORCH_OIP_INPUT_HPP_INCLUDED_ */
