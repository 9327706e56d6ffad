
/*
 * Names, lengths and helpers that the parts of the Open Inference Protocol
 * share.
 */


#ifndef _NGX_WEBTORCH_OIP_PARTS_HPP_INCLUDED_
#define _NGX_WEBTORCH_OIP_PARTS_HPP_INCLUDED_


#include "ngx_webtorch_json_read.hpp"
#include "ngx_webtorch_oip.h"

#include <string_view>


namespace webtorch::oip {


using webtorch::json::Decoder;
using webtorch::json::array;
using webtorch::json::element;
using webtorch::json::element_type;
using webtorch::json::object;


/* names by dtype */
inline constexpr const char *kDatatypes[NGX_WEBTORCH_NTYPES] = {
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64",
    "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES", "BYTES"
};

/* bytes of the length in front of each string of a binary tensor */
constexpr size_t kLengthLen = 4;


inline int
malformed(const Decoder &d, const char *what)
{
    return ngx_webtorch_error(d.err, 400, "malformed_body",
                              "invalid inference request: %s", what);
}


inline int
malformed_tensor(const Decoder &d, const char *name, const char *what)
{
    return ngx_webtorch_error(d.err, 400, "malformed_body",
                              "tensor \"%s\": %s", name, what);
}


/*
 * Finds a member.  One that is null counts as missing: some clients write null
 * for each member that they do not use.
 */

inline bool
find(const object &o, const char *name, element *e)
{
    return o[name].get(*e) == simdjson::SUCCESS && !e->is_null();
}


/* 0: found, 1: there is none, -1: err is set */

inline int
read_parameters(const Decoder &d, const object &o, object *parameters)
{
    element  e;

    if (!find(o, "parameters", &e)) {
        return 1;
    }

    if (e.get(*parameters) != simdjson::SUCCESS) {
        return malformed(d, "\"parameters\" is not an object");
    }

    return 0;
}


/* unsupported extensions must not be ignored: the answer would be wrong */

inline int
refuse_parameter(const Decoder &d, const object &parameters, const char *name)
{
    element  e;

    if (!find(parameters, name, &e)) {
        return 0;
    }

    return ngx_webtorch_error(d.err, 400, "malformed_body",
               "invalid inference request: the parameter \"%s\" is not "
               "supported", name);
}


inline int
parse_id(const Decoder &d, const object &root, ngx_webtorch_oip_t *oip)
{
    element           e;
    std::string_view  id;

    oip->id_len = 0;
    oip->version = "1";
    oip->version_len = 1;

    if (!find(root, "id", &e)) {
        return 0;
    }

    if (e.get(id) != simdjson::SUCCESS || id.size() > NGX_WEBTORCH_OIP_ID_LEN) {
        return malformed(d, "\"id\" is not a string of at most 256 bytes");
    }

    oip->id_len = id.copy(oip->id, NGX_WEBTORCH_OIP_ID_LEN);

    return 0;
}


} /* namespace webtorch::oip */


#endif /* _NGX_WEBTORCH_OIP_PARTS_HPP_INCLUDED_ */
