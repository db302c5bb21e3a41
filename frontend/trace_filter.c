#include "frontend/trace_filter.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cpu/state/trace.h"
#include "devices/text.h"
#include "frontend/options_table.h"
#include "vmx/exit_reason.h"

bool trace_file_named(const char *path, bool *json, bool *zstd)
{
    size_t n = strlen(path);
    *zstd = n > 4 && strcmp(path + n - 4, ".zst") == 0;
    if (*zstd) n -= 4;
    *json = n > 5 && strncmp(path + n - 5, ".json", 5) == 0;
    return *json || (n > 4 && strncmp(path + n - 4, ".txt", 4) == 0);
}

u32 log_kinds(u32 items)
{
    // clang-format off
    static const struct { u32 item, kinds; } map[] = {
        {LOG_VMX, 1 << TRACE_ENTRY | 1 << TRACE_EXIT | 1 << TRACE_ENTRY_FAILED | 1 << TRACE_REFUSED | 1 << TRACE_MISUSE | 1 << TRACE_STALE}, {LOG_FAULT, 1 << TRACE_FAULT | 1 << TRACE_SHUTDOWN},
        {LOG_INTERRUPT, 1 << TRACE_INTERRUPT}, {LOG_IO, 1 << TRACE_IO}, {LOG_MSR, 1 << TRACE_MSR},
        {LOG_UNIMPLEMENTED, 1 << TRACE_UNIMPLEMENTED}, {LOG_WALK, 1 << TRACE_WALK}};
    // clang-format on
    u32 kinds = 0;
    for (unsigned i = 0; i < ARRAY_LEN(map); i++)
        if (items & map[i].item) kinds |= map[i].kinds;
    return kinds;
}

static bool reason(struct trace_filter *f, const char *word)
{
    u64 x;
    if (text_number(word, &x) && x < EXIT_REASON_COUNT) return f->reasons[x / 64] |= BIT(x % 64), true;
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
        if (vmx_exit_reason_name(i)[0] != '?' && strcasecmp(vmx_exit_reason_name(i), word) == 0)
            return f->reasons[i / 64] |= BIT(i % 64), true;
    return false;
}

static bool kind(u32 *items, const char *word)
{
    for (unsigned i = 0; i < log_rows_n; i++)
        if (log_rows[i].bits && strcmp(log_rows[i].name, word) == 0) return *items |= log_rows[i].bits, true;
    return false;
}

bool trace_filter_parse(struct trace_filter *f, const char *text, char *why, size_t n)
{
    u32 items = 0;
    *f = (struct trace_filter){0};
    while (text && *text) {
        char word[64];
        u64 x;
        size_t k = strcspn(text, ",");
        snprintf(word, sizeof word, "%.*s", (int)(k < sizeof word ? k : sizeof word - 1), text);
        text += k + (text[k] == ',');
        if (strcmp(word, "root") == 0)
            f->root = true;
        else if (strcmp(word, "guest") == 0)
            f->guest = true;
        else if (strncmp(word, "cpu=", 4) == 0 && text_number(word + 4, &x) && x < 64)
            f->cpus |= BIT(x);
        else if (strncmp(word, "reason=", 7) == 0 && reason(f, word + 7))
            f->some_reasons = true;
        else if (!kind(&items, word)) {
            snprintf(why, n,
                     "--trace-filter: \"%s\" is neither a kind (-d help lists them, walk is one more), nor a "
                     "level (root, guest), nor cpu=N, nor reason= with the name or number of an exit reason",
                     word);
            return false;
        }
    }
    f->kinds = log_kinds(items ? items : LOG_ALL);
    if (!f->root && !f->guest) f->root = f->guest = true;
    if (!f->cpus) f->cpus = UINT64_MAX;
    return true;
}
