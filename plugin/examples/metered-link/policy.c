// For recipients on links that cost: what is small is sent when they are there, what is larger than `max_push_bytes` is
// announced, and sent when they ask for it. Dispositions are always sent.

#include "short_names.h"

#include <stdlib.h>
#include <string.h>

#define SECONDS UINT64_C(1000)
#define DAYS (24 * 3600 * SECONDS)

typedef TYPE(waiting_message) message_t;
typedef TYPE(list_message_id) ids_t;

// Room for as many ids as there are messages; memory is never given back.
static ids_t ids_for(size_t messages) { return (ids_t){malloc(messages * sizeof(uint64_t)), 0}; }

static void add(ids_t *ids, const message_t *message) { ids->ptr[ids->len++] = message->id; }

void exports_policy_describe(policy_description_t *ret) {
    ret->name = TEXT("metered-link");
    ret->version = TEXT("0.1.0");
    ret->settings_schema.is_some = true;
    ret->settings_schema.val = TEXT("{\"type\": \"object\", \"additionalProperties\": false, \"properties\": "
        "{\"max_push_bytes\": {\"description\": \"The largest message that is sent unasked.\", \"type\": \"integer\", "
        "\"minimum\": 0, \"maximum\": 4294967295, \"default\": 20000}}}");
}

bool exports_policy_on_incoming(policy_context_t *context, policy_incoming_t *incoming, policy_incoming_answer_t *ret,
                                policy_string_t *err) {
    (void)err;
    uint64_t expires_at = context->now + 7 * DAYS;
    if (incoming->expires_at.is_some && incoming->expires_at.val < expires_at) expires_at = incoming->expires_at.val;
    if (expires_at <= context->now) {
        ret->tag = IS(INCOMING_ANSWER_REJECT);
        ret->val.reject = (TYPE(rejection)){480, TEXT("Messages that may not wait are not taken"), {false, 0}};
        return true;
    }
    ret->tag = IS(INCOMING_ANSWER_KEEP);
    ret->val.keep = (TYPE(keep)){expires_at, 100, true};
    return true;
}

static bool is_due(const policy_context_t *context, const message_t *message) {
    return !message->not_before.is_some || message->not_before.val <= context->now;
}

bool exports_policy_on_available(policy_context_t *context, policy_availability_t *availability, policy_plan_t *ret,
                                 policy_string_t *err) {
    (void)err;
    uint64_t max_push_bytes;
    memcpy(&max_push_bytes, context->settings.ptr, sizeof max_push_bytes);
    uint8_t abilities = 0;
    for (size_t at = 0; at < availability->contacts.len; at++) abilities |= availability->contacts.ptr[at].abilities;
    size_t count = availability->messages.len;
    ids_t page = ids_for(count), session = ids_for(count), announced = ids_for(count);
    uint64_t fetch_deadline = 0;
    for (size_t at = 0; at < count; at++) {
        const message_t *message = &availability->messages.ptr[at];
        bool can_page = (abilities & IS(ABILITIES_PAGE_MODE)) && message->page_bytes.is_some && !message->page_refused &&
                        message->page_bytes.val <= context->host.max_page_bytes;
        if (message->size_bytes > max_push_bytes && message->kind == IS(MESSAGE_KIND_MESSAGE)) {
            bool is_new = !message->notified_at.is_some || availability->trigger == IS(TRIGGER_REGISTERED) ||
                          availability->trigger == IS(TRIGGER_REPORTED);
            if (availability->can_notify && is_new) add(&announced, message);
            if (message->expires_at > fetch_deadline) fetch_deadline = message->expires_at;
        } else if (is_due(context, message) && can_page) {
            add(&page, message);
        } else if (is_due(context, message) && (abilities & IS(ABILITIES_LARGE_MESSAGE_MODE))) {
            add(&session, message);
        }
    }
    // What no step names is held by the host.
    TYPE(step) *steps = malloc(3 * sizeof *steps);
    ret->steps = (TYPE(list_step)){steps, 0};
    ret->ask_again_at.is_some = false;
    const TYPE(target) any = {IS(TARGET_ANY), {0}};
    if (page.len > 0) steps[ret->steps.len++] = (TYPE(step)){IS(STEP_PAGE), {.page = {page, any}}};
    if (session.len > 0) steps[ret->steps.len++] = (TYPE(step)){IS(STEP_SESSION), {.session = {session, any}}};
    if (announced.len > 0) {
        TYPE(notify_step) notify = {announced, fetch_deadline, IS(AFTER_DEADLINE_ASK)};
        steps[ret->steps.len++] = (TYPE(step)){IS(STEP_NOTIFY), {.notify = notify}};
        restante_policy_log_log(RESTANTE_POLICY_LOG_LEVEL_DEBUG, &TEXT("large messages are announced"));
    }
    return true;
}

bool exports_policy_on_pull(policy_context_t *context, policy_pull_t *pull, policy_pull_answer_t *ret,
                            policy_string_t *err) {
    (void)context, (void)err;
    if (pull->verification == IS(VERIFICATION_NONE)) {
        ret->tag = IS(PULL_ANSWER_REFUSE);
        ret->val.refuse = (TYPE(rejection)){403, TEXT("Identity is not established"), {false, 0}};
        return true;
    }
    ids_t ids = ids_for(pull->messages.len);
    for (size_t at = 0; at < pull->messages.len; at++) {
        bool is_asked = pull->selection.tag == IS(SELECTION_ALL);
        for (size_t listed = 0; !is_asked && listed < pull->selection.val.listed.len; listed++)
            is_asked = pull->selection.val.listed.ptr[listed] == pull->messages.ptr[at].id;
        if (is_asked) add(&ids, &pull->messages.ptr[at]);
    }
    ret->tag = IS(PULL_ANSWER_SEND);
    ret->val.send = (TYPE(pull_delivery)){ids, IS(MODE_LARGE), false};
    return true;
}

bool exports_policy_on_failure(policy_context_t *context, policy_failure_t *failure, policy_list_failure_answer_t *ret,
                               policy_string_t *err) {
    (void)context, (void)err;
    static const uint64_t waits[] = {30 * SECONDS, 120 * SECONDS, 600 * SECONDS, 3600 * SECONDS};
    ret->len = failure->messages.len;
    ret->ptr = calloc(ret->len, sizeof *ret->ptr);
    for (size_t at = 0; at < ret->len; at++) {
        const message_t *message = &failure->messages.ptr[at].message;
        TYPE(failure_action) *action = &ret->ptr[at].action;
        size_t earlier = message->attempts > 0 ? message->attempts - 1u : 0;
        bool is_left = earlier < sizeof waits / sizeof *waits && failure->attempt != IS(ATTEMPT_KIND_PULL);
        ret->ptr[at].message = message->id;
        action->tag = is_left ? IS(FAILURE_ACTION_RETRY) : IS(FAILURE_ACTION_WAIT);
        if (is_left) action->val.retry.after_milliseconds = waits[earlier];
    }
    return true;
}

bool exports_policy_on_expiry(policy_context_t *context, policy_list_expiring_message_t *messages,
                              policy_list_expiry_answer_t *ret, policy_string_t *err) {
    (void)context, (void)err;
    // Left to the host: what has no answer is dropped with a report.
    (void)messages;
    ret->len = 0;
    return true;
}
