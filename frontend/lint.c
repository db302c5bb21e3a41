// matryoshka vmcs-lint. Reads the VMCS and the capabilities, judges all rows, and says besides what was taken
// for granted and what cannot be known without the machine's memory.
#include "frontend/lint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system/system.h"
#include "frontend/caps_text.h"
#include "frontend/plain.h"
#include "vmx/explain.h"

enum { LONGEST_FILE = 4 << 20, NOTES_MAX = 200 };

struct note {
    bool error;
    unsigned line;
    char what[300];
};
struct lint {
    const char *file, *caps, *cpu;
    bool json, resume, legacy;
    struct vmcs_text text;
    struct processor p;
    struct note note[NOTES_MAX];
    unsigned notes, notes_lost;
    const char *reading; // the file under way
};

static int complain(const char *format, const char *a, const char *b, int status)
{
    fputs("matryoshka vmcs-lint: ", stderr);
    plain_line(stderr, format, a, b);
    return status;
}

static void help(void)
{
    puts("usage: matryoshka vmcs-lint [--caps FILE|NAME] [--cpu MODEL] [--json] [--vmresume] [--legacy-host] "
         "FILE\n"
         "\n"
         "Checks a VMCS in text against every rule of VM entry, without a guest. FILE (- is standard input) "
         "has lines\n"
         "\"FIELD = VALUE\", the field by encoding or by name (the manual's, Linux's, Xen's, VirtualBox's, "
         "Hyper-V's), values\n"
         "in hexadecimal; or what Linux's KVM (dump_vmcs) or Xen (debug key v) print of a VMCS.\n"
         "\n"
         "  --caps FILE     capability MSRs (480H-493H) in text: \"0x480: 0x...\", \"IA32_VMX_BASIC = ...\", "
         "rdmsr's output\n"
         "  --caps NAME     those of a processor that is known; \"--caps help\" lists them (default: "
         "Matryoshka's own)\n"
         "  --cpu MODEL     Matryoshka's own with other features, as -cpu\n"
         "  --json          one JSON object on standard output\n"
         "  --vmresume      the entry is by VMRESUME with a launched VMCS (default: VMLAUNCH with a clear "
         "one)\n"
         "  --legacy-host   the entry is made outside IA-32e mode\n"
         "\n"
         "Exit status: 0 the entry would succeed; 1 rules are violated; 2 usage; 4 a file that cannot be "
         "read or understood\n"
         "(the line and what is wrong with it is told); 6 the host refused.");
}

static void take_note(void *opaque, bool error, unsigned line, const char *what)
{
    struct lint *l = opaque;
    if (error) {
        if (line)
            plain_line(stderr, "matryoshka vmcs-lint: %s:%u: %s", l->reading, line, what);
        else
            plain_line(stderr, "matryoshka vmcs-lint: %s: %s", l->reading, what);
        return;
    }
    if (l->notes == NOTES_MAX) {
        l->notes_lost++;
        return;
    }
    struct note *n = &l->note[l->notes++];
    n->line = line;
    snprintf(n->what, sizeof n->what, "%s", what);
}

// ---- reading ----
static char *read_file(const char *path, size_t *n)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = f ? malloc(LONGEST_FILE + 1) : NULL;
    if (!text) {
        complain("cannot read %s: %s", path, strerror(errno), 0);
        if (f && f != stdin) fclose(f);
        return NULL;
    }
    *n = fread(text, 1, LONGEST_FILE + 1, f);
    bool bad = ferror(f), large = *n > LONGEST_FILE;
    if (f != stdin) fclose(f);
    if (!bad && !large) return text;
    complain(bad ? "cannot read %s: %s" : "%s is larger than 4 MiB: no VMCS in text is", path,
             strerror(errno), 0);
    free(text);
    return NULL;
}

static int list_processors(void)
{
    struct processor p;
    printf("%-20s %s\n", "matryoshka",
           "this program's own processor (the default); --cpu takes features away");
    for (unsigned i = 0; processor_named(&p, i); i++) printf("%-20s %s\n", p.name, p.source);
    return 0;
}

static int read_caps(struct lint *l)
{
    char why[400];
    if (!l->caps || !strcmp(l->caps, "matryoshka"))
        return processor_own(&l->p, l->cpu, why, sizeof why) ? 0 : complain("%s%s", why, "", LINT_USAGE);
    if (l->cpu)
        return complain("--cpu %s%s", l->cpu, ": features are for Matryoshka's own processor, not for --caps",
                        LINT_USAGE);
    for (unsigned i = 0; processor_named(&l->p, i); i++)
        if (!strcmp(l->caps, l->p.name)) return 0;
    FILE *probe = strcmp(l->caps, "-") ? fopen(l->caps, "rb") : NULL;
    if (!probe)
        return complain(
            "--caps %s: there is no such file, and no processor of this name (--caps help lists them)%s",
            l->caps, "", LINT_BAD_INPUT);
    fclose(probe);
    size_t n;
    char *text = read_file(l->caps, &n);
    if (!text) return LINT_BAD_INPUT;
    l->reading = l->caps;
    bool ok = processor_parse(&l->p, text, n, take_note, l);
    l->p.name = l->caps, l->p.source = "capability MSRs in text";
    free(text);
    return ok ? 0 : LINT_BAD_INPUT;
}

static int read_vmcs(struct lint *l)
{
    size_t n;
    char *text = read_file(l->file, &n);
    if (!text) return LINT_BAD_INPUT;
    l->reading = l->file;
    bool ok = vmcs_text_parse(&l->text, text, n, take_note, l);
    free(text);
    return ok ? 0 : LINT_BAD_INPUT;
}

// What could not have been written there.
static void note_absent_fields(struct lint *l)
{
    char what[160];
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        if (!l->text.line[i] || l->p.caps.exists[i] || !vmcs_field_get(&l->text.f, (enum vmcs_field)i))
            continue;
        snprintf(what, sizeof what,
                 "this processor has no field %s: VMWRITE fails with VM-instruction error 12",
                 vmcs_field_rows[i].name);
        take_note(l, false, l->text.line[i], what);
    }
}

// ---- judging ----
static void assume(struct lint *l, struct vmx_entry *e)
{
    struct vmcs_fields *f = &l->text.f;
    if (!l->text.line[VMCS_VMCS_LINK_POINTER]) f->VMCS_LINK_POINTER = UINT64_MAX;
    *e = (struct vmx_entry){.f = f,
                            .caps = &l->p.caps,
                            .features = &l->p.features,
                            .maxphyaddr = l->p.maxphyaddr,
                            .linear_bits = l->p.linear_bits,
                            .launch = !l->resume,
                            .launch_state = l->resume ? VMCS_LAUNCH_LAUNCHED : VMCS_LAUNCH_CLEAR,
                            .vmcs_pointer = VMX_NO_POINTER - 1, // wherever it is, it is no field's address
                            .vmxon_pointer = VMX_NO_POINTER - 1,
                            .revision = (u32)l->p.caps.basic & 0x7FFFFFFF,
                            .cr0 = f->HOST_CR0,
                            .cr3 = f->HOST_CR3,
                            .cr4 = f->HOST_CR4,
                            .efer = l->legacy ? 0 : EFER_LME | EFER_LMA,
                            .rflags = 2};
    vmx_entry_decode(e);
}

static bool reads(const struct vmx_check *c, unsigned first, unsigned last)
{
    for (const u16 *p = c->inputs; *p != VMX_INPUT_END; p++)
        if (*p >= first && *p <= last) return true;
    return false;
}

// Whether the field matters: a rule that applies reads it, and it was not given.
static bool taken_for_granted(const struct lint *l, const struct vmx_entry *e, unsigned field)
{
    if (l->text.line[field] || !l->p.caps.exists[field]) return false;
    for (unsigned i = 0; i < vmx_check_row_count; i++)
        if (reads(&vmx_check_rows[i], field, field) &&
            vmx_check_judge(e, &vmx_check_rows[i]) != VMX_VERDICT_DOES_NOT_APPLY)
            return true;
    return false;
}

// Why a row that reads memory cannot be judged; NULL: it has nothing to say of this VMCS.
static const char *unknowable(const struct vmx_entry *e, const struct vmx_check *c)
{
    const struct vmcs_fields *f = e->f;
    if (!strcmp(vmx_check_group(c), "msr-load"))
        return f->VM_ENTRY_MSR_LOAD_COUNT ? "the VM-entry MSR-load area is in memory" : NULL;
    if (reads(c, VMX_INPUT_VTPR, VMX_INPUT_VTPR))
        return e->proc & PROC_USE_TPR_SHADOW ? "the virtual-APIC page is in memory" : NULL;
    if (reads(c, VMX_INPUT_LINK_DWORD, VMX_INPUT_LINK_DWORD))
        return f->VMCS_LINK_POINTER != VMX_NO_POINTER ? "the VMCS that the link pointer names is in memory"
                                                      : NULL;
    if (reads(c, VMX_INPUT_PDPTE0, VMX_INPUT_PDPTE3)) {
        bool pae =
            (f->GUEST_CR0 & CR0_PG) && (f->GUEST_CR4 & CR4_PAE) && !(e->entry & ENTRY_IA32E_MODE_GUEST);
        return pae && !(e->proc2 & PROC2_ENABLE_EPT) ? "the PDPTEs at guest CR3 are in memory" : NULL;
    }
    return NULL;
}

// Controls that are on and whose rules are not among the rows, because Matryoshka's own processor does not
// offer them.
static const char *without_rows(const struct vmx_entry *e, const struct vmx_control_row *r)
{
    u64 word[GROUP_COUNT] = {[GROUP_PIN] = e->pin,     [GROUP_PROC] = e->proc,    [GROUP_PROC2] = e->proc2,
                             [GROUP_PROC3] = e->proc3, [GROUP_EXIT] = e->exit,    [GROUP_EXIT2] = e->exit2,
                             [GROUP_ENTRY] = e->entry, [GROUP_VMFUNC] = e->vmfunc};
    return r->offered == 0 && (word[r->group] >> r->bit & 1) && (e->caps->allowed1[r->group] >> r->bit & 1)
               ? r->text
               : NULL;
}

static void put(void *opaque, const char *text) { fputs(text, stdout); }
static void put_string(const char *s) { vmx_json_string(s, put, NULL); }

// Words separated by commas, in lines of at most 100 columns.
static void listed(unsigned *column, bool *first, const char *word)
{
    unsigned n = (unsigned)strlen(word);
    if (!*first) {
        fputs(",", stdout);
        if (*column + n + 2 > 100) {
            fputs("\n     ", stdout);
            *column = 4;
        }
    }
    printf(" %s", word);
    *column += n + 2;
    *first = false;
}

static void assumptions_text(const struct lint *l, const struct vmx_entry *e)
{
    unsigned column = 13;
    bool first = true;
    printf("Taken for granted: %s of a %s VMCS, no blocking by MOV SS, %s.\n",
           l->resume ? "VMRESUME" : "VMLAUNCH", l->resume ? "launched" : "clear",
           l->legacy ? "a processor outside IA-32e mode" : "a processor in IA-32e mode");
    if (!l->text.line[VMCS_VMCS_LINK_POINTER]) puts("  VMCS_LINK_POINTER was not given: FFFFFFFF_FFFFFFFFH");
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        if (i == VMCS_VMCS_LINK_POINTER || !taken_for_granted(l, e, i)) continue;
        if (first) fputs("  not given, and 0:", stdout), column = 19;
        listed(&column, &first, vmcs_field_rows[i].name);
    }
    if (!first) putchar('\n');
}

static void unchecked_text(const struct vmx_entry *e)
{
    bool head = true;
    for (unsigned i = 0; i < vmx_check_row_count; i++) {
        const char *why = unknowable(e, &vmx_check_rows[i]);
        if (!why) continue;
        if (head) puts("Not checked:");
        head = false;
        printf("  %s: %s\n", vmx_check_rows[i].id, why);
    }
    for (unsigned i = 0; i < CONTROL_COUNT; i++) {
        const char *name = without_rows(e, &vmx_control_rows[i]);
        if (!name) continue;
        if (head) puts("Not checked:");
        head = false;
        printf("  the rules of %s, which Matryoshka's processor does not offer\n", name);
    }
}

static void report_text(const struct lint *l, const struct vmx_entry *e, unsigned violated)
{
    for (unsigned i = 0; i < l->notes; i++)
        plain_line(stdout, "note: line %u: %s", l->note[i].line, l->note[i].what);
    if (l->notes_lost) printf("note: and %u more of the kind\n", l->notes_lost);
    plain_line(stdout, "%s: %u fields, against %s (%s)", strcmp(l->file, "-") ? l->file : "standard input",
               l->text.fields, l->p.name, l->p.source);
    if (violated)
        vmx_explain_entry(e, NULL, put, NULL);
    else
        puts("The entry would succeed, as far as can be told here: no rule is violated.");
    if (violated && !l->p.own)
        puts("(Rules on what a processor has or has not - IA32_DEBUGCTL, SGX, RTM, bus locks - are those of "
             "Matryoshka's.)");
    assumptions_text(l, e);
    unchecked_text(e);
}

static void report_json(const struct lint *l, const struct vmx_entry *e, unsigned violated)
{
    fputs("{\"file\": ", stdout), put_string(l->file);
    fputs(", \"processor\": ", stdout), put_string(l->p.name);
    fputs(", \"source\": ", stdout), put_string(l->p.source);
    printf(", \"fields_given\": %u, \"would_succeed\": %s, ", l->text.fields, violated ? "false" : "true");
    vmx_explain_entry_json(e, NULL, put, NULL);
    printf(", \"assumed\": {\"instruction\": \"%s\", \"ia32e_mode\": %s, \"fields\": {",
           l->resume ? "VMRESUME" : "VMLAUNCH", l->legacy ? "false" : "true");
    const char *comma = "";
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        bool link = i == VMCS_VMCS_LINK_POINTER && !l->text.line[i];
        if (!link && !taken_for_granted(l, e, i)) continue;
        printf("%s\"%s\": \"%#llx\"", comma, vmcs_field_rows[i].name,
               (unsigned long long)vmcs_field_get(e->f, (enum vmcs_field)i));
        comma = ", ";
    }
    fputs("}}, \"not_checked\": [", stdout);
    comma = "";
    for (unsigned i = 0; i < vmx_check_row_count; i++) {
        const char *why = unknowable(e, &vmx_check_rows[i]);
        if (why)
            printf("%s{\"id\": \"%s\", \"why\": \"%s\"}", comma, vmx_check_rows[i].id, why), comma = ", ";
    }
    for (unsigned i = 0; i < CONTROL_COUNT; i++) {
        const char *name = without_rows(e, &vmx_control_rows[i]);
        if (name)
            printf("%s{\"control\": \"%s\", \"why\": \"Matryoshka's processor does not offer it\"}", comma,
                   name),
                comma = ", ";
    }
    fputs("], \"notes\": [", stdout);
    for (unsigned i = 0; i < l->notes; i++) {
        printf("%s{\"line\": %u, \"text\": ", i ? ", " : "", l->note[i].line);
        put_string(l->note[i].what);
        putchar('}');
    }
    puts("]}");
}

static int lint(struct lint *l)
{
    struct vmx_entry e;
    struct vmx_check_failure x;
    int status = read_caps(l);
    if (!status) status = read_vmcs(l);
    if (status) return status;
    note_absent_fields(l);
    assume(l, &e);
    unsigned violated = vmx_doctor(&e, &x, 1);
    if (l->json)
        report_json(l, &e, violated);
    else
        report_text(l, &e, violated);
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain("cannot write to standard output: %s%s", strerror(errno), "", LINT_HOST);
    return violated ? LINT_VIOLATED : LINT_WOULD_SUCCEED;
}

int lint_main(int argc, char **argv)
{
    struct lint *l = calloc(1, sizeof *l);
    if (!l) return complain("the host has no memory%s%s", "", "", LINT_HOST);
    int status = -1;
    for (int i = 1; i < argc && status < 0; i++) {
        char *a = argv[i], *value = strchr(a, '=');
        if (a[0] == '-' && a[1] == '-') a++; // one dash or two
        size_t n = value ? (size_t)(value - a) : strlen(a);
#define IS(name) (n == strlen("-" name) && !strncmp(a, "-" name, n))
        if (IS("help") || IS("h")) {
            help();
            status = 0;
        } else if (IS("json"))
            l->json = true;
        else if (IS("vmresume"))
            l->resume = true;
        else if (IS("legacy-host"))
            l->legacy = true;
        else if (IS("caps") || IS("cpu")) {
            bool caps = IS("caps");
            const char *v = value ? value + 1 : i + 1 < argc ? argv[++i] : NULL;
            if (!v)
                status = complain("%s wants a value (--help tells more)%s", caps ? "--caps" : "--cpu", "",
                                  LINT_USAGE);
            else if (caps && (!strcmp(v, "help") || !strcmp(v, "?")))
                status = list_processors();
            else if (caps)
                l->caps = v;
            else
                l->cpu = v;
        } else if (a[0] == '-' && a[1])
            status = complain("there is no option %s (--help lists them)%s", argv[i], "", LINT_USAGE);
        else if (l->file)
            status = complain("one file at a time: %s and %s", l->file, argv[i], LINT_USAGE);
        else
            l->file = argv[i];
    }
    if (status < 0 && !l->file)
        status = complain("which file? (- is standard input; --help tells more)%s%s", "", "", LINT_USAGE);
    if (status < 0) status = lint(l);
    free(l);
    return status;
}
