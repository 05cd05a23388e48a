// `check-settings`: `max_push_bytes` as eight bytes, which later calls read without parsing.

#include "short_names.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_PUSH_BYTES UINT64_C(20000)

// Reads one object with numbers, which is all the JSON that the settings are.
typedef struct {
    const uint8_t *at, *end;
} reader_t;

static bool next_is(reader_t *reader, uint8_t expected) {
    while (reader->at < reader->end && (*reader->at == ' ' || (*reader->at >= '\t' && *reader->at <= '\r'))) reader->at++;
    if (reader->at == reader->end || *reader->at != expected) return false;
    reader->at++;
    return true;
}

static bool read_name(reader_t *reader, policy_string_t *name) {
    if (!next_is(reader, '"')) return false;
    name->ptr = (uint8_t *)reader->at;
    while (reader->at < reader->end && *reader->at != '"' && *reader->at != '\\') reader->at++;
    name->len = (size_t)(reader->at - name->ptr);
    return next_is(reader, '"') && next_is(reader, ':');
}

static bool read_number(reader_t *reader, uint64_t *number) {
    next_is(reader, ' ');
    const uint8_t *start = reader->at;
    for (*number = 0; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++) {
        *number = *number * 10 + (*reader->at - '0');
        if (*number > UINT32_MAX) return false;
    }
    return reader->at > start;
}

static bool refuse(policy_list_problem_t *err, policy_string_t pointer, policy_string_t text) {
    err->ptr = malloc(sizeof *err->ptr);
    err->len = 1;
    *err->ptr = (policy_problem_t){pointer, IS(SEVERITY_ERROR), text};
    return false;
}

static policy_string_t pointer_to(policy_string_t name) {
    policy_string_t pointer = {malloc(2 * name.len + 1), 1};
    pointer.ptr[0] = '/';
    for (size_t at = 0; at < name.len; at++) {
        bool is_special = name.ptr[at] == '~' || name.ptr[at] == '/';
        pointer.ptr[pointer.len++] = is_special ? '~' : name.ptr[at];
        if (is_special) pointer.ptr[pointer.len++] = name.ptr[at] == '~' ? '0' : '1';
    }
    return pointer;
}

bool exports_policy_check_settings(policy_string_t *settings, policy_host_abilities_t *host,
                                   policy_checked_settings_t *ret, policy_list_problem_t *err) {
    const policy_string_t known = TEXT("max_push_bytes");
    uint64_t *max_push_bytes = malloc(sizeof *max_push_bytes);
    *max_push_bytes = DEFAULT_MAX_PUSH_BYTES;
    reader_t reader = {settings->ptr, settings->ptr + settings->len};
    if (!next_is(&reader, '{')) return refuse(err, TEXT(""), TEXT("expected an object"));
    if (!next_is(&reader, '}')) {
        do {
            policy_string_t name;
            if (!read_name(&reader, &name)) return refuse(err, TEXT(""), TEXT("expected the name of a setting"));
            if (name.len != known.len || memcmp(name.ptr, known.ptr, name.len) != 0)
                return refuse(err, pointer_to(name), TEXT("is not a setting; expected max_push_bytes"));
            if (!read_number(&reader, max_push_bytes))
                return refuse(err, pointer_to(name), TEXT("expected a whole number from 0 to 4294967295"));
        } while (next_is(&reader, ','));
        if (!next_is(&reader, '}')) return refuse(err, TEXT("/max_push_bytes"), TEXT("expected a whole number"));
    }
    (void)host;
    ret->normalised = (policy_list_u8_t){(uint8_t *)max_push_bytes, sizeof *max_push_bytes};
    ret->problems.len = 0;
    return true;
}
