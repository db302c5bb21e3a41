// A feature that is off is a processor without it: every row that names one is #UD then, or what the opcode
// meant before. The cases are the rows themselves, so none is missed; what an opcode means without the
// feature is the manual's, listed below.
#include <stdio.h>

#include "cpu/engine/engine.h"
#include "cpu/state/mode.h"
#include "cpu/system/model.h"
#include "cpu_machine.h"
#include "tests/encode_vex.h"

static struct tm *t;
static int setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

static const struct {
    const char *name, *without;
} older[] = {
    {"lzcnt", "bsr"}, // F3h is ignored (SDM, LZCNT)
    {"tzcnt", "bsf"},
    {"cldemote", "nop"}, // in the space that is kept for hints
};

static void
everything_on(struct cpu_features *f) // also what this host could not run: nothing of it runs here
{
    memset(f->bits, 0, sizeof f->bits);
    for (unsigned i = 1; i < FEATURE_COUNT; i++) cpu_feature_switch(f, i, true);
}

static unsigned decode(const struct row *r, bool memory, u8 *code, unsigned *row)
{
    struct insn in;
    memset(&in, 0, sizeof in);
    encode_row(r, memory, code);
    u32 mode = t->v->d.mode;
    if (r->i64) mode = (mode & ~(u32)(MODE_CODE | MODE_LMA)) | MODE_CODE32;
    unsigned n = decode_insn(t->v, code, 15, mode, &in);
    *row = in.row;
    return n;
}

// `-cpu max,-x` on the decoder, and on the processor itself.
static void each_row_without_its_feature(void **state)
{
    unsigned rows_seen = 0, forms = 0, run = 0, meant_before = 0;
    S.cr0 = (S.cr0 | CR0_MP) & ~(u64)(CR0_EM | CR0_TS);
    everything_on(&t->f);
    S.xcr0 = 7;
    S.cr4 |= cr4_valid_mask(t->v) & ~(u64)(CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_VME | CR4_UMIP);
    S.gpr[RSI] = DATA;
    cpu_mode_changed(t->v);
    for (unsigned i = ROW_FIXED; i < rows_n; i++) {
        const struct row *r = &rows[i];
        if (!r->feature) continue;
        rows_seen++;
        const char *feature = cpu_feature_name(r->feature - 1u);
        for (unsigned memory = 0; memory < 2; memory++) {
            u8 code[16];
            unsigned row;
            if (row_mod(r) == (memory ? MOD_REG : MOD_MEM)) continue;
            everything_on(&t->f);
            decode(r, memory, code, &row);
            if (row != i)
                fail_msg("%s (%s): another row (%s) with its feature", r->name, feature, rows[row].name);
            forms++;
            cpu_feature_switch(&t->f, r->feature, false);
            unsigned n = decode(r, memory, code, &row);
            if (row != ROW_UD) {
                bool known = false;
                for (unsigned k = 0; k < ARRAY_LEN(older); k++)
                    known |= !strcmp(r->name, older[k].name) && !strcmp(rows[row].name, older[k].without);
                if (!known) fail_msg("%s is %s without %s", r->name, rows[row].name, feature);
                meant_before++;
                continue;
            }
            if (r->i64) continue;
            for (unsigned loop = 0; loop < 2; loop++) {
                t->v->loop_engine = loop;
                S.gpr[RSP] = STACK;
                int vector = tm_run(t, code, n > 15 || !n ? 15 : n);
                if (vector != VEC_UD) fail_msg("%s without %s: vector %d", r->name, feature, vector);
                run++;
            }
        }
    }
    // AES, SHA, BMI, MMX, SSE ... : were the column empty, this would see it
    assert_true(rows_seen > 500 && forms > rows_seen && run > rows_seen && meant_before >= ARRAY_LEN(older));
}

// The words of -cpu give such processors, and CPUID says so.
static void words_and_cpuid(void **state)
{
    bool named[FEATURE_COUNT] = {false};
    for (unsigned i = ROW_FIXED; i < rows_n; i++) named[rows[i].feature] = true;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) {
        char text[64], buf[256];
        const char *why = "";
        struct cpu_features f;
        if (!named[i]) continue;
        snprintf(text, sizeof text, "max,-%s", cpu_feature_name(i - 1));
        if (!cpu_features_parse(&f, text, buf, sizeof buf, &why)) fail_msg("%s: %s", text, why);
        assert_false(feature_on(&f, (enum feature)i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_row_without_its_feature, setup, teardown),
        cmocka_unit_test_setup_teardown(words_and_cpuid, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
