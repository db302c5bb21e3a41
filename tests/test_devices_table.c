// The table of devices: every row can be configured, is refused what its properties' types do not hold, and
// makes a device.
#include "tests/device_test.h"
#include "devices/machine.h"
#include "devices/text.h"

// ---- what the types hold ----

// Words, and which types take them: their meaning as the user's manual of QEMU has it (on|off, numbers as in
// C, sizes with suffix).
// clang-format off
enum { B = 1 << PROPERTY_BOOL, N8 = 1 << PROPERTY_U8, N16 = 1 << PROPERTY_U16, N32 = 1 << PROPERTY_U32, N64 = 1 << PROPERTY_U64,
       SZ = 1 << PROPERTY_SIZE, PT = 1 << PROPERTY_PORT, ST = 1 << PROPERTY_STRING, CH = 1 << PROPERTY_CHARDEV };
enum { TEXTS = ST | CH, FROM_64 = N64 | SZ, FROM_32 = N32 | FROM_64, FROM_16 = N16 | PT | FROM_32, FROM_8 = N8 | FROM_16 };
// clang-format on
static const struct {
    const char *word;
    u32 types;
    u64 n;
} words[] = {
    {"", TEXTS, 0},
    {"x", TEXTS, 0},
    {"on", B | TEXTS, 1},
    {"off", B | TEXTS, 0},
    {"maybe", TEXTS, 0},
    {"0", FROM_8 | TEXTS, 0},
    {"1", FROM_8 | TEXTS, 1},
    {"0x1f", FROM_8 | TEXTS, 0x1F},
    {"255", FROM_8 | TEXTS, 255},
    {"256", FROM_16 | TEXTS, 256},
    {"65535", FROM_16 | TEXTS, 65535},
    {"65536", FROM_32 | TEXTS, 65536},
    {"0xffffffff", FROM_32 | TEXTS, 0xFFFFFFFF},
    {"0x100000000", FROM_64 | TEXTS, 0x100000000},
    {"0xffffffffffffffff", FROM_64 | TEXTS, UINT64_MAX},
    {"0x10000000000000000", SZ | TEXTS, UINT64_MAX}, // a size that is too large is the largest
    {"-1", TEXTS, 0},
    {"+1", TEXTS, 0},
    {" 1", TEXTS, 0},
    {"1 ", TEXTS, 0},
    {"1K", SZ | TEXTS, 1024},
    {"1.5M", SZ | TEXTS, 3 << 19},
    {"1.9K", SZ | TEXTS, 1945},
    {"15E", SZ | TEXTS, 15ull << 60},
    {"16E", SZ | TEXTS, UINT64_MAX},
    {"1.5", TEXTS, 0},
};

static const enum property_type types[] = {PROPERTY_BOOL, PROPERTY_U8,     PROPERTY_U16,
                                           PROPERTY_U32,  PROPERTY_U64,    PROPERTY_SIZE,
                                           PROPERTY_PORT, PROPERTY_STRING, PROPERTY_CHARDEV};

static bool row_takes(const struct device_property *p, u64 n)
{
    bool chosen = p->choice[0] == 0;
    for (unsigned i = 0; i < DEVICE_CHOICES; i++) chosen |= p->choice[i] && p->choice[i] == n;
    return chosen && n >= p->least && (!p->most || n <= p->most);
}

static void check_property(const struct device_row *row, unsigned k)
{
    const struct device_property *p = &row->property[k];
    bool text = p->type == PROPERTY_STRING || p->type == PROPERTY_CHARDEV;
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        struct device_config c;
        char why[256] = "";
        device_config_begin(&c, row);
        bool wanted = (words[i].types >> p->type & 1) && (text || row_takes(p, words[i].n));
        bool got = device_config_set(&c, k, words[i].word, why, sizeof why);
        if (got != wanted)
            fail_msg("%s: %s=%s is %s", row->name, p->name, words[i].word, got ? "accepted" : why);
        if (!got) {
            char begins[64];
            // the user sees which word it is about
            snprintf(begins, sizeof begins, "%s=%s ", p->name, words[i].word);
            if (strncmp(why, begins, strlen(begins)) != 0) fail_msg("%s", why);
            assert_int_equal(c.value[k].n, p->standard);
            assert_int_equal(c.given, 0);
            continue;
        }
        assert_int_equal(c.given, 1u << k);
        if (text) assert_string_equal(c.value[k].text, words[i].word);
        assert_int_equal(c.value[k].n, text ? 0 : words[i].n);
    }
}

static void properties_are_refused_by_type(void **state)
{
    struct device_row row = {.name = "all-types"};
    // one at a time: a row has room for fewer than there are types
    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        row.property[0] = (struct device_property){.name = "p", .type = types[i], .help = "help"};
        check_property(&row, 0);
    }
    row.property[0] =
        (struct device_property){"p", PROPERTY_U16, "help", .standard = 300, .least = 256, .most = 65534};
    check_property(&row, 0);
    row.property[0] = (struct device_property){"p",           PROPERTY_SIZE,  "help", .standard = 1024,
                                               .least = 1024, .most = 2 << 20};
    check_property(&row, 0);
    row.property[0] = (struct device_property){"p", PROPERTY_U32, "help", .standard = 1,
                                               .choice = {1, 255, 65536, 0xFFFFFFFF}};
    check_property(&row, 0);
    for (unsigned r = 0; r < device_rows_n; r++)
        for (unsigned k = 0; device_rows[r]->property[k].type != PROPERTY_END; k++)
            check_property(device_rows[r], k);
}

// ---- the rows ----

static void rows_are_whole(void **state)
{
    unsigned all = 0;
    for (unsigned r = 0; r < device_rows_n; r++) {
        const struct device_row *row = device_rows[r];
        assert_ptr_equal(device_row_find(row->name), row); // no other has its name
        assert_true(row->help && row->create && row->most && row->size >= sizeof(struct device) &&
                    row->bus < DEVICE_BUSES);
        all += row->most;
        for (unsigned k = 0; row->property[k].type != PROPERTY_END; k++) {
            const struct device_property *p = &row->property[k];
            bool text = p->type == PROPERTY_STRING || p->type == PROPERTY_CHARDEV;
            assert_true(k < DEVICE_PROPERTIES);
            assert_non_null(p->help);
            assert_int_equal(device_row_property(row, p->name), k);
            assert_string_not_equal(p->name, "id"); // is of every device
            assert_true(text || p->needed || row_takes(p, p->standard));
        }
        if (!row->ports) continue;
        struct device_config c;
        struct port_range range[DEVICE_RANGES];
        device_config_begin(&c, row);
        assert_true(row->ports(c.value, range) <= DEVICE_RANGES);
    }
    assert_true(all <= MACHINE_DEVICES_MAX); // as many of each as there may be
    assert_null(device_row_find("isa-debug-exi"));
    assert_null(device_row_find(""));
    assert_int_equal(device_row_property(&debug_exit_row, "iobas"), -1);
}

static void what_is_needed(void **state)
{
    struct device_config c = device_of("isa-debugcon,iobase=0x402");
    assert_string_equal(device_config_missing(&c)->name, "chardev");
    c = device_of("isa-debugcon,chardev=a");
    assert_null(device_config_missing(&c));
    c = device_of("isa-debug-exit");
    assert_null(device_config_missing(&c));
}

static void properties_say_what_they_take(void **state)
{
    // clang-format off
    static const struct { struct device_property p; const char *text; } said[] = {
        {{"p", PROPERTY_BOOL, "help", .standard = 1}, "help (on or off; default on)"},
        {{"p", PROPERTY_BOOL, "help", .needed = true}, "help (on or off; needed)"},
        {{"p", PROPERTY_U8, "help", .standard = 9}, "help (default 9)"},
        {{"p", PROPERTY_U32, "help", .standard = 2, .choice = {1, 2, 4}}, "help (1, 2 or 4; default 2)"},
        {{"p", PROPERTY_U32, "help", .standard = 2, .choice = {1, 2, 4, 16}}, "help (1, 2, 4 or 0x10; default 2)"},
        {{"p", PROPERTY_U16, "help", .standard = 16, .most = 32}, "help (0 to 0x20; default 0x10)"},
        {{"p", PROPERTY_PORT, "help", .standard = 0x501}, "help (default 0x501)"},
        {{"p", PROPERTY_SIZE, "help", .standard = 1 << 20, .least = 512, .most = 3ull << 30}, "help (512 to 3G; default 1M)"},
        {{"p", PROPERTY_STRING, "help", .needed = false}, "help"},
        {{"p", PROPERTY_CHARDEV, "help", .needed = true}, "help (needed)"},
    };
    // clang-format on
    char text[128];
    for (unsigned i = 0; i < ARRAY_LEN(said); i++) {
        device_property_text(&said[i].p, text, sizeof text);
        assert_string_equal(text, said[i].text);
    }
    device_property_text(&said[3].p, text, 8); // no more than there is room for
    assert_string_equal(text, "help (1");
}

static void refusals_say_what_would_do(void **state)
{
    static const struct {
        const char *device, *property, *value, *why;
    } refused[] = {
        {"isa-debug-exit", "iosize", "3", "iosize=3 must be 1, 2 or 4"},
        {"isa-debug-exit", "iobase", "65536", "iobase=65536 is no port"},
        {"isa-debugcon", "readback", "0x100", "readback=0x100 must be 0 to 0xff"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
        struct device_config c = device_of(refused[i].device);
        char why[128] = "";
        assert_false(device_config_set(&c, (unsigned)device_row_property(c.row, refused[i].property),
                                       refused[i].value, why, sizeof why));
        assert_string_equal(why, refused[i].why);
    }
}

static void ports_are_of_one_device(void **state)
{
    // clang-format off
    static const struct { const char *one, *other, *why; } pairs[] = {
        {"isa-debug-exit,iobase=0x100,iosize=2", "isa-debug-exit,iobase=0x102,iosize=2", NULL},
        {"isa-debug-exit,iobase=0x100,iosize=4", "isa-debug-exit,iobase=0x103,iosize=1", "isa-debug-exit and isa-debug-exit are both at port 0x103"},
        {"isa-debug-exit,iobase=0x103,iosize=1", "isa-debug-exit,iobase=0x100,iosize=4", "isa-debug-exit and isa-debug-exit are both at port 0x103"},
        {"pc-testdev", "isa-debugcon,iobase=0xe7", "pc-testdev and isa-debugcon are both at port 0xe7"},
        {"pc-testdev", "isa-debugcon,iobase=0xe8", NULL},
        {"isa-debug-exit,iobase=0x1fff,iosize=1", "pc-testdev", NULL},
        {"isa-debug-exit,iobase=0x2017,iosize=1", "pc-testdev", "isa-debug-exit and pc-testdev are both at port 0x2017"},
        {"isa-debug-exit,iobase=0x2018,iosize=1", "pc-testdev", NULL},
        {"isa-debug-exit,iobase=0xfffc,iosize=4", "piix3-usb-uhci", NULL},
        {"piix3-usb-uhci", "isa-debug-exit,iobase=0xfffd,iosize=4", "isa-debug-exit: 4 ports at iobase=0xfffd do not fit below 10000h"},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        struct device_config c[] = {device_of(pairs[i].one), device_of(pairs[i].other)};
        char why[128] = "";
        assert_int_equal(device_config_ports(c, 2, why, sizeof why), pairs[i].why == NULL);
        assert_string_equal(why, pairs[i].why ? pairs[i].why : "");
    }
}

// ---- a device that only this file knows ----

struct latch { // a port that holds what was written to it
    struct device dev;
    STATE_BEGIN
    struct latch_state {
        u64 value;
    } st;
    STATE_END
    u64 mask;
};
static u64 latch_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    return ((struct latch *)d)->st.value;
}
static void latch_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 v)
{
    struct latch *l = (struct latch *)d;
    l->st.value = v & l->mask;
}
static const struct device_ops latch_ops = {
    .name = "latch", .state_version = 1, .read = latch_read, .write = latch_write};
enum { LATCH_PORT, LATCH_MASK };
static void latch_create(void *self, const struct device_board *b, const struct property_value *v)
{
    struct latch *l = self;
    l->dev =
        (struct device){.ops = &latch_ops, .clock = b->clock, .state = &l->st, .state_size = sizeof l->st};
    l->mask = v[LATCH_MASK].n;
    bus_map_port(b->bus, &l->dev, 0, (u16)v[LATCH_PORT].n, 4);
    b->add(b->to, &l->dev);
}
static void latch_firmware(void *self) { ((struct latch *)self)->st.value = 0x55; }
// clang-format off
static const struct device_row latch_row = {
    .name = "latch", .help = "a latch", .most = 2, .size = sizeof(struct latch), .create = latch_create, .firmware = latch_firmware,
    .property = {[LATCH_PORT] = {"iobase", PROPERTY_PORT, "the port", .needed = true}, [LATCH_MASK] = {"mask", PROPERTY_U32, "bits", .standard = 0xFF}}};
// clang-format on

// The machine makes it, resets it, and has its state in the list that hashes and snapshots go by.
static void a_row_is_all_that_the_machine_needs(void **state)
{
    struct machine_config config = {.ram_size = 2 << 20, .cpus = 1, .devices = 2};
    char text[64];
    const char *why;
    cpu_features_max(&config.features);
    for (unsigned i = 0; i < 2; i++) {
        device_config_begin(&config.device[i], &latch_row);
        assert_true(
            device_config_set(&config.device[i], LATCH_PORT, i ? "0x710" : "0x700", text, sizeof text));
    }
    assert_true(device_config_set(&config.device[1], LATCH_MASK, "0xf00", text, sizeof text));
    struct machine *m = calloc(1, sizeof *m);
    assert_non_null(m);
    assert_true(machine_init(m, &config, &why));
    assert_int_equal(bus_port_read(&m->bus, 0x700, 4), 0x55); // as firmware leaves it
    bus_port_write(&m->bus, 0x700, 4, 0x12345678);
    bus_port_write(&m->bus, 0x710, 4, 0x12345678);
    assert_int_equal(bus_port_read(&m->bus, 0x700, 4), 0x78);
    assert_int_equal(bus_port_read(&m->bus, 0x710, 4), 0x600);
    const u64 wanted[] = {0x78, 0x600}; // in the order of the configurations
    unsigned found = 0;
    for (const struct device *d = m->devices; d; d = d->next) {
        if (d->ops != &latch_ops) continue;
        assert_true(found < 2);
        assert_int_equal(((const struct latch_state *)d->state)->value, wanted[found]);
        assert_int_equal(d->state_size, 8);
        assert_ptr_equal(d->host, &m->host);
        found++;
    }
    assert_int_equal(found, 2);
    machine_reset(m);
    assert_int_equal(bus_port_read(&m->bus, 0x710, 4), 0x55);
    machine_free(m);
    free(m);
}

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_are_refused_by_type), cmocka_unit_test(rows_are_whole), cmocka_unit_test(what_is_needed),
        cmocka_unit_test(properties_say_what_they_take),  cmocka_unit_test(refusals_say_what_would_do), cmocka_unit_test(ports_are_of_one_device),
        cmocka_unit_test(a_row_is_all_that_the_machine_needs),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
