// A VMCS in text: every name finds its field, numbers, lines, dumps, capabilities in their usual shapes, and
// what is told of bad input.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frontend/caps_text.h"

// clang-format off
static const struct { u16 field; const char *names; } others[] = {
#define NAMES(field, names) {VMCS_##field, names},
#include "frontend/vmcs_names.def"
#undef NAMES
};
enum { G = 1, H = 2, C = 4, GHC = 7, VMCS_NONE = VMCS_FIELD_COUNT };
#define PIECE_1(a)       {VMCS_##a}
#define PIECE_2(a, b)    {VMCS_##a, VMCS_##b}
#define PIECE_3(a, b, c) {VMCS_##a, VMCS_##b, VMCS_##c}
#define PIECE_4(a, b, c, d) {VMCS_##a, VMCS_##b, VMCS_##c, VMCS_##d}
#define PICK(a, b, c, d, n, ...) n
#define PIECE(sections, text, ...) {sections, text, PICK(__VA_ARGS__, PIECE_4, PIECE_3, PIECE_2, PIECE_1, )(__VA_ARGS__)},
static const struct { u8 sections; const char *text; u16 field[4]; } pieces[] = {
#include "frontend/vmcs_dumps.def"
};
static const char *const msr_names[] = { // SDM appendix A
    "BASIC", "PINBASED_CTLS", "PROCBASED_CTLS", "EXIT_CTLS", "ENTRY_CTLS", "MISC", "CR0_FIXED0", "CR0_FIXED1", "CR4_FIXED0", "CR4_FIXED1",
    "VMCS_ENUM", "PROCBASED_CTLS2", "EPT_VPID_CAP", "TRUE_PINBASED_CTLS", "TRUE_PROCBASED_CTLS", "TRUE_EXIT_CTLS", "TRUE_ENTRY_CTLS",
    "VMFUNC", "PROCBASED_CTLS3", "EXIT_CTLS2",
};
// clang-format on

struct told {
    unsigned errors, notes, line;
    char what[300];
};
static void hear(void *opaque, bool error, unsigned line, const char *what)
{
    struct told *t = opaque;
    assert_true(what[0] && !strchr(what, '\n'));
    if (error) t->errors++;
    if (!error) t->notes++;
    t->line = line;
    snprintf(t->what, sizeof t->what, "%s", what);
}

static int field_of(const char *name, bool *high) { return vmcs_name_find(name, strlen(name), high); }

static void names(void **state)
{
    bool high;
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field_row *r = &vmcs_field_rows[i];
        char text[200];
        assert_int_equal(field_of(r->name, &high), i);
        assert_false(high);
        snprintf(text, sizeof text, "%.*s", (int)strcspn(r->text, "("), r->text);
        assert_int_equal(field_of(text, &high), i); // the manual's
        snprintf(text, sizeof text, "%s_HIGH", r->name);
        assert_int_equal(field_of(text, &high), r->width == WIDTH_64 ? i : -1);
        assert_true(high == (r->width == WIDTH_64));
        snprintf(text, sizeof text, "VMX_VMCS64_%s_FULL", r->name);
        assert_int_equal(field_of(text, &high), r->width == WIDTH_64 ? i : -1);
    }
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        char list[300];
        snprintf(list, sizeof list, "%s", others[i].names);
        for (char *s = strtok(list, " "); s; s = strtok(NULL, " "))
            if (field_of(s, &high) != others[i].field) fail_msg("%s is taken for another field", s);
    }
    // Facts of Linux's vmx.h, VirtualBox's VMX_VMCS constants and Hyper-V's enlightened VMCS.
    // clang-format off
    static const struct { const char *name; int field; } known[] = {
        {"GUEST_CR0", VMCS_GUEST_CR0}, {"PIN_BASED_VM_EXEC_CONTROL", VMCS_PIN_BASED_CONTROLS},
        {"CPU_BASED_VM_EXEC_CONTROL", VMCS_PRIMARY_PROC_BASED_CONTROLS}, {"VM_ENTRY_INTR_INFO_FIELD", VMCS_INJECTED_EVENT_IDENTIFICATION},
        {"GUEST_TR_AR_BYTES", VMCS_GUEST_TR_ACCESS_RIGHTS}, {"VMX_VMCS16_GUEST_ES_SEL", VMCS_GUEST_ES_SELECTOR},
        {"VMX_VMCS32_CTRL_PIN_EXEC", VMCS_PIN_BASED_CONTROLS}, {"VMX_VMCS64_CTRL_EPTP_FULL", VMCS_EPTP}, {"GuestCsAttributes", VMCS_GUEST_CS_ACCESS_RIGHTS},
        {"HostEsSelector", VMCS_HOST_ES_SELECTOR}, {"guest_interruptibility_info", VMCS_GUEST_INTERRUPTIBILITY_STATE}, {"guest CR4", VMCS_GUEST_CR4},
        {"VMCS link pointer", VMCS_VMCS_LINK_POINTER}, {"EPT pointer", VMCS_EPTP}, {"GUEST_CR9", -1}, {"", -1}, {"VMCS", -1}, {"HIGH", -1},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        assert_int_equal(field_of(known[i].name, &high), known[i].field);
    assert_string_equal(vmcs_name_nearest("GUEST_RFLAG", 11), "GUEST_RFLAGS");
    assert_string_equal(vmcs_name_nearest("pin_based_vm_exec_contrl", 24), "PIN_BASED_VM_EXEC_CONTROL");
    assert_null(vmcs_name_nearest("whatever", 8));
}

static void numbers(void **state)
{
    // clang-format off
    static const struct { const char *s; u64 value; int used; } good[] = {
        {"0", 0, 1}, {"0x1F", 0x1F, 4}, {"1f", 0x1F, 2}, {"0FFH", 0xFF, 4}, {"FFFFFFFF_FFFFFFFFH", UINT64_MAX, 18}, {"~0ull,", UINT64_MAX, 5},
        {"-1", UINT64_MAX, 2}, {"0xffffffffffffffff rest", UINT64_MAX, 18}, {"00000000000000000010", 0x10, 20},
    };
    // clang-format on
    static const char *const bad[] = {
        "",   "x",  "0x", "g",  "12g", "0x1_", "0xfffffffffffffffff", "10000000000000000",
        "~1", "-2", "_1", "-15"};
    u64 value;
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        const char *end = vmcs_text_number(good[i].s, &value);
        if (!end || end - good[i].s != good[i].used || value != good[i].value) fail_msg("%s", good[i].s);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        if (vmcs_text_number(bad[i], &value)) fail_msg("\"%s\" is taken for a number", bad[i]);
}

static struct told parse(struct vmcs_text *t, const char *text, bool good)
{
    struct told told = {0};
    if (vmcs_text_parse(t, text, strlen(text), hear, &told) != good) fail_msg("%s: %s", text, told.what);
    assert_true(good == !told.errors);
    return told;
}

static void assignments(void **state)
{
    struct vmcs_text t;
    struct told told;
    parse(&t,
          "# a comment\r\n0x6800 = 0x80050033 // CR0\n6802=1000\n\nGUEST_CR4: 2020 ; guest RIP = "
          "FFFFFFFF_80001000H\n"
          "GUEST_RSP 0x5000\nguest_rflags := 2\nGUEST_CS_SELECTOR (802H) = 8, GUEST_SS_SELECTOR = 10\n"
          "GUEST_IA32_PAT = 11111111\nGUEST_IA32_PAT_HIGH = 22222222\n0x2807 = 33333333\nVPID = ~0\n",
          true);
    assert_int_equal(t.f.GUEST_CR0, 0x80050033);
    assert_int_equal(t.f.GUEST_CR3, 0x1000);
    assert_int_equal(t.f.GUEST_CR4, 0x2020);
    assert_true(t.f.GUEST_RIP == 0xFFFFFFFF80001000);
    assert_int_equal(t.f.GUEST_RSP, 0x5000);
    assert_int_equal(t.f.GUEST_RFLAGS, 2);
    assert_int_equal(t.f.GUEST_CS_SELECTOR, 8);
    assert_int_equal(t.f.GUEST_SS_SELECTOR, 0x10);
    assert_true(t.f.GUEST_IA32_PAT == 0x2222222211111111);
    assert_true(t.f.GUEST_IA32_EFER == 0x3333333300000000);
    assert_int_equal(t.f.VPID, 0xFFFF);
    assert_int_equal(t.fields, 11);
    assert_int_equal(t.line[VMCS_GUEST_RIP], 5);
    assert_int_equal(t.line[VMCS_GUEST_DR7], 0);

    // clang-format off
    static const struct { const char *text; unsigned line; const char *what; } bad[] = {
        {"", 0, "there is no VMCS field in it"}, {"# nothing\n", 0, "there is no VMCS field in it"},
        {"GUEST_CR0 = 1\nGUEST_RFLAG = 2\n", 2, "no VMCS field is called GUEST_RFLAG; did you mean GUEST_RFLAGS"},
        {"zzzzzzzz = 2", 1, "no VMCS field is called zzzzzzzz"}, {"0x482c = 1", 1, "no VMCS field has the encoding 0x482c"},
        {"0x6801 = 1", 1, "no VMCS field has the encoding 0x6801"}, {"0x100006800 = 1", 1, "no VMCS field has the encoding 0x100006800"},
        {"GUEST_CR0 = ", 1, "GUEST_CR0: \"\" is no value (up to 16 hexadecimal digits)"},
        {"GUEST_CR0 = 12zz, GUEST_CR3 = 1", 1, "GUEST_CR0: \"12zz\" is no value (up to 16 hexadecimal digits)"},
        {"GUEST_CR0 = 0x12345678123456781", 1, "GUEST_CR0: \"0x12345678123456781\" is no value (up to 16 hexadecimal digits)"},
        {"\nVPID = 12345", 2, "0x12345 does not fit VPID, which has 16 bits"},
        {"PIN_BASED_CONTROLS = 100000016", 1, "0x100000016 does not fit PIN_BASED_CONTROLS, which has 32 bits"},
        {"EPTP_HIGH = 100000000", 1, "0x100000000 does not fit EPTP, which has 32 bits"},
        {"hello", 1, "this is neither FIELD = VALUE nor a line of a dump: \"hello\""}, {"= 5", 1, "this is neither FIELD = VALUE nor a line of a dump: \"= 5\""},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        told = parse(&t, bad[i].text, false);
        if (told.line != bad[i].line || strcmp(told.what, bad[i].what))
            fail_msg("%s: line %u: %s", bad[i].text, told.line, told.what);
    }
    told = parse(&t, "GUEST_RFLAG = 1\nVPID = 12345\n", false); // all of them, not the first alone
    assert_int_equal(told.errors, 2);
    told = parse(&t, "GUEST_CR0 = 1\n6800 = 2\n", true);
    assert_string_equal(told.what,
                        "GUEST_CR0 was given in line 1 already, with another value: this one counts");
    assert_int_equal(t.f.GUEST_CR0, 2);
    struct told nul = {0};
    assert_false(vmcs_text_parse(&t, "GUEST_CR0 = 1\n\0", 15, hear, &nul));
    assert_string_equal(nul.what, "a NUL byte: this is no text");
    char longest[1200];
    memset(longest, ' ', sizeof longest);
    assert_false(vmcs_text_parse(&t, longest, sizeof longest, hear, &nul));
    assert_string_equal(nul.what, "a line of more than 1000 bytes: this is no VMCS in text");
}

// Every piece of a dump in its section, with a value of its own for each field.
static void dumps(void **state)
{
    static const char *const heads[] = {"*** Guest State ***", "*** Host State ***", "*** Control State ***"};
    for (unsigned i = 0; i < ARRAY_LEN(pieces); i++) {
        for (unsigned section = 0; section < 3; section++) {
            char text[600];
            unsigned n = 0;
            int k = snprintf(text, sizeof text, "IO_RCX = 1\n%s\n", heads[section]);
            for (const char *s = pieces[i].text; *s; s++) {
                if (*s == '%')
                    k += snprintf(text + k, sizeof text - (size_t)k, n % 2 ? "%08x" : "0x%016x",
                                  0x41 + i % 7 + n),
                        n++;
                else
                    text[k++] = *s;
            }
            text[k] = 0;
            struct vmcs_text t;
            struct told told = parse(&t, text, true);
            bool here = pieces[i].sections >> section & 1, first_fits = pieces[i].field[0] < VMCS_FIELD_COUNT;
            if (!here) { // it may be another field's there
                if (!told.notes && first_fits && t.line[pieces[i].field[0]] == 3)
                    fail_msg("\"%s\" is read in %s", text, heads[section]);
                continue;
            }
            if (told.notes) fail_msg("\"%s\" is not read: %s", pieces[i].text, told.what);
            for (unsigned j = 0; j < n; j++) {
                u16 field = pieces[i].field[j];
                if (field == VMCS_FIELD_COUNT || (j && !field)) continue;
                if (t.line[field] != 3 || vmcs_field_get(&t.f, field) != 0x41 + i % 7 + j)
                    fail_msg("\"%s\": %s was not read", pieces[i].text, vmcs_field_rows[field].name);
            }
        }
    }
    // What stands in parentheses is not a value, an effective EFER is not the field's, and other lines are
    // left alone.
    struct vmcs_text t;
    struct told told = parse(&t,
                             "Oops: 0002\n<4>[    1.0] kvm_intel: *** Guest State ***\n> RSP = 0x10 (0x20)  "
                             "RIP = 0x30 (name+0x4/0x5)\n"
                             "EFER= 0x0000000000000d01 (effective)\n[ 5.0] Call Trace:\n CR3 = 0x5000 junk\n",
                             false); // "Oops: 0002" is before any dump, and no field
    assert_int_equal(told.errors, 1);
    told = parse(&t,
                 "[ 0.1] Oops: 0002\n<4>[    1.0] kvm_intel: *** Guest State ***\n> RSP = 0x10 (0x20)  RIP = "
                 "0x30 (name+0x4/0x5)\n"
                 "EFER= 0x0000000000000d01 (effective)\n[ 5.0] Call Trace:\n CR3 = 0x5000 junk\n",
                 true);
    assert_int_equal(told.notes, 3);
    assert_int_equal(t.fields, 2);
    assert_int_equal(t.f.GUEST_RSP, 0x10);
    assert_int_equal(t.f.GUEST_RIP, 0x30);
    assert_int_equal(t.f.GUEST_IA32_EFER, 0);
    assert_int_equal(t.f.GUEST_CR3, 0); // a line counts as a whole
    told = parse(&t, "*** Host State ***\nCS=0010 SS=12345 what\nRIP = 0x1\n",
                 true); // also with what does not fit in it
    assert_int_equal(told.notes, 1);
    assert_int_equal(t.fields, 1);
    told = parse(&t, "*** Host State ***\nCS=0010 SS=12345\n", false);
    assert_string_equal(told.what, "0x12345 does not fit HOST_SS_SELECTOR, which has 16 bits");
}

// The MSRs of this program's own processor, in each shape, give back its capabilities.
static void capabilities(void **state)
{
    static const char *const shapes[] = {"0x%x: 0x%llx\n",
                                         "%x = %016llx\n",
                                         "msr 0x%x = 0x%llx\n",
                                         "MSR %x: %llx # here\n",
                                         "[0x%x] 0x%llx\n",
                                         "rdmsr 0x%x\n%llx\n",
                                         "$ sudo rdmsr -p0 0x%x\n%016llx\n",
                                         "  %x\t0x%llx\r\n"};
    struct processor own, p;
    char text[4000], why[200];
    struct told told = {0};
    assert_true(processor_own(&own, NULL, why, sizeof why));
    assert_true(own.own && own.maxphyaddr == 40);
    for (unsigned s = 0; s <= ARRAY_LEN(shapes); s++) {
        int k = snprintf(text, sizeof text, "maxphyaddr = 40\nlinear = 57\n");
        for (u32 msr = 0x480; msr <= 0x493; msr++) {
            u64 value;
            if (!vmx_caps_msr(&own.caps, msr, &value)) continue;
            if (s < ARRAY_LEN(shapes))
                k += snprintf(text + k, sizeof text - (size_t)k, shapes[s], msr, (unsigned long long)value);
            else
                k += snprintf(text + k, sizeof text - (size_t)k, "IA32_VMX_%s: %#llx\n",
                              msr_names[msr - 0x480], (unsigned long long)value);
        }
        if (!processor_parse(&p, text, (size_t)k, hear, &told)) fail_msg("shape %u: %s", s, told.what);
        u64 index = p.caps.vmcs_enum; // follows from the fields
        assert_int_equal(index, own.caps.vmcs_enum);
        assert_memory_equal(&p.caps, &own.caps, sizeof p.caps);
        assert_true(p.maxphyaddr == 40 && p.linear_bits == 57 && !p.own);
    }
    // Without the TRUE MSRs the older ones count.
    snprintf(text, sizeof text,
             "480: da0400000000abcd\n481: 7f00000016\n482: fff9fffe0401e172\n483: 7fffff00036dff\n484: "
             "ffff000011ff\n485: 401e5\n"
             "486: 80000021\n487: ffffffff\n488: 2000\n489: 3767ff\n48b: 0\n3a: 5\naddress sizes\t: 39 bits "
             "physical, 48 bits virtual\n");
    memset(&told, 0, sizeof told);
    assert_true(processor_parse(&p, text, strlen(text), hear, &told));
    assert_int_equal(told.notes, 1);
    assert_string_equal(told.what, "MSR 3AH is no capability of VMX and is left alone");
    assert_int_equal(p.caps.true_allowed0[GROUP_PROC], 0x0401E172);
    assert_true(p.maxphyaddr == 39 && p.linear_bits == 48);
    assert_false(p.caps.exists[VMCS_EPTP]);
    assert_true(p.caps.exists[VMCS_GUEST_IA32_EFER] && p.caps.exists[VMCS_GUEST_CR0]);

    // clang-format off
    static const struct { const char *text; unsigned line; const char *what; } bad[] = {
        {"", 0, "IA32_VMX_BASIC (480H) is missing"}, {"480: da0400000000abcd\n", 0, "IA32_VMX_MISC (485H) is missing"},
        {"480: zz\n", 1, "\"zz\" is no value (up to 16 hexadecimal digits)"}, {"480:\n", 1, "\"\" is no value (up to 16 hexadecimal digits)"},
        {"rdmsr 0x480\nhello\n", 2, "\"hello\" is no value (up to 16 hexadecimal digits)"},
        {"IA32_VMX_BASICS = 1", 1, "this is no MSR with its value: \"IA32_VMX_BASICS = 1\""},
        {"maxphyaddr = 99\n", 1, "physical addresses have 32 to 52 bits, linear ones 48 or 57"},
        {"480: 1\n485: 1\n486: 1\n487: 1\n488: 1\n489: 1\n", 0, "IA32_VMX_PINBASED_CTLS (481H) or its TRUE form (48DH) is missing"},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        memset(&told, 0, sizeof told);
        assert_false(processor_parse(&p, bad[i].text, strlen(bad[i].text), hear, &told));
        if (told.line != bad[i].line || strcmp(told.what, bad[i].what))
            fail_msg("%s: line %u: %s", bad[i].text, told.line, told.what);
    }
    assert_false(processor_own(&own, "max,-vmx", why, sizeof why));
    assert_string_equal(why, "--cpu max,-vmx: a processor without VMX has no VMCS");
    assert_false(processor_own(&own, "max,-nothing", why, sizeof why));
    unsigned n = 0;
    while (processor_named(&p, n)) {
        // SDM A.1: bit 31 of IA32_VMX_BASIC is 0, 55 the TRUE MSRs; VMXE is fixed
        assert_true(!(p.caps.basic >> 31 & 1) && p.caps.basic >> 55 & 1 && p.caps.cr4_fixed0 == 0x2000 &&
                    p.maxphyaddr == 40);
        n++;
    }
    assert_int_equal(n, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names), cmocka_unit_test(numbers),      cmocka_unit_test(assignments),
        cmocka_unit_test(dumps), cmocka_unit_test(capabilities),
    };
    return cmocka_run_group_tests_name("a VMCS in text", tests, NULL, NULL);
}
