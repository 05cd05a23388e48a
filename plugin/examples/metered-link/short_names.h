// Short names for what the contract's bindings call at length.
#ifndef SHORT_NAMES_H
#define SHORT_NAMES_H

#include "bindings/policy.h"

#define TYPE(name) restante_policy_types_##name##_t
#define IS(name) RESTANTE_POLICY_TYPES_##name
#define TEXT(literal) ((policy_string_t){(uint8_t *)(literal), sizeof(literal) - 1})

#endif
