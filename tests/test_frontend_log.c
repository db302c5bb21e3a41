// What is told of a machine is told of every processor: the log, the registers, the statistics.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "frontend/explain.c" // the program's, not the library's
#include "frontend/log.c"

static struct machine *make(unsigned cpus)
{
    struct machine_config config = {.ram_size = 4 << 20, .cpus = cpus};
    struct machine *m = calloc(1, sizeof *m);
    const char *why = NULL;
    assert_non_null(m);
    cpu_features_max(&config.features);
    if (!machine_init(m, &config, &why)) fail_msg("%s", why);
    return m;
}

static char *text_of(void (*tell)(FILE *, const struct machine *), const struct machine *m)
{
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    tell(f, m);
    fclose(f);
    return text;
}
static void statistics(FILE *f, const struct machine *m) { log_statistics(f, m, 1); }

static void every_processor(void **state)
{
    for (unsigned cpus = 1; cpus <= 3; cpus++) {
        struct machine *m = make(cpus);
        struct log l;
        struct symbols symbols = {0};
        struct options o = {.log_mask = LOG_UNIMPLEMENTED};
        char why[100], name[] = "/tmp/log-XXXXXX", line[200], want[50];
        close(mkstemp(name));
        o.log_file = name;
        assert_true(log_open(&l, &o, m, &symbols, why, sizeof why));
        for (unsigned i = 0; i < cpus; i++) {
            m->cpu[i]->s.gpr[RBX] = 0xABC0 + i;
            unimplemented(m->cpu[i], "this", 0x100 + i);
        }
        assert_true(log_close(&l));
        FILE *f = fopen(name, "r");
        assert_non_null(f);
        for (unsigned i = 0; i < cpus; i++) {
            assert_non_null(fgets(line, sizeof line, f));
            snprintf(want, sizeof want, "unimplemented cpu=%u ", i);
            assert_memory_equal(line, want, strlen(want));
            snprintf(want, sizeof want, " name=\"this\" detail=%#x\n", 0x100 + i);
            assert_string_equal(line + strlen(line) - strlen(want), want);
        }
        assert_null(fgets(line, sizeof line, f));
        fclose(f);
        unlink(name);

        char *registers = text_of(log_registers, m), *numbers = text_of(statistics, m), *r = registers,
             *n = numbers;
        for (unsigned i = 0; i < cpus; i++) { // in their order
            snprintf(want, sizeof want, "cpu=%u\n", i);
            if (cpus > 1) {
                assert_non_null(r = strstr(r, want));
                assert_non_null(n = strstr(n, want));
            } else
                assert_true(!strstr(r, "cpu=") && !strstr(n, "cpu="));
            snprintf(want, sizeof want, "RBX=%016x", 0xABC0 + i);
            assert_non_null(r = strstr(r, want));
            snprintf(want, sizeof want, "unimplemented: this, 1 times, last %#x\n", 0x100 + i);
            assert_non_null(n = strstr(n, want));
        }
        free(registers);
        free(numbers);
        machine_free(m);
        free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_processor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
