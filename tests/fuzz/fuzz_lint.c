// vmcs-lint's input: a VMCS in text, and capability MSRs in text. Whatever they hold: read or refused with a
// reason, and what was read can be judged and explained.
//
// Input: the two texts, with a line of "====" between them (without one, it is all VMCS).
#define _GNU_SOURCE
#include "frontend/caps_text.h"
#include "tests/fuzz/fuzz.h"
#include "vmx/explain.h"

struct heard {
    unsigned errors;
};

static void hear(void *opaque, bool error, unsigned line, const char *what)
{
    struct heard *h = opaque;
    MUST(*what && strlen(what) < 300 && !strchr(what, '\n'), "told in no line, or in several");
    h->errors += error;
}

static void put(void *opaque, const char *text) { *(size_t *)opaque += strlen(text); }

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct processor own;
    static bool made;
    char why[300];
    if (!made) made = processor_own(&own, NULL, why, sizeof why);
    const char *text = (const char *)data, *cut = size ? memmem(text, size, "====\n", 5) : NULL;
    size_t n = cut ? (size_t)(cut - text) : size, said = 0;
    struct heard h = {0};
    struct vmcs_text *t = malloc(sizeof *t);
    struct processor *p = malloc(sizeof *p);
    bool good = vmcs_text_parse(t, text, n, hear, &h);
    MUST(good == !h.errors && (!good || t->fields), "read with an error, or refused without one");
    h.errors = 0;
    bool caps = cut && processor_parse(p, cut + 5, size - n - 5, hear, &h);
    MUST(!cut || caps == !h.errors, "capabilities read with an error, or refused without one");
    if (good) {
        const struct processor *q = caps ? p : &own;
        struct vmx_entry e = {.f = &t->f,
                              .caps = &q->caps,
                              .features = &q->features,
                              .maxphyaddr = q->maxphyaddr,
                              .linear_bits = q->linear_bits,
                              .launch = true,
                              .efer = 0x500,
                              .rflags = 2};
        vmx_entry_decode(&e);
        vmx_explain_entry(&e, NULL, put, &said);
        vmx_explain_entry_json(&e, NULL, put, &said);
        MUST(said, "nothing was said");
    }
    free(t), free(p);
    return 0;
}
