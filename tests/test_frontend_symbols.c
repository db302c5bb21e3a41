// Symbols: of ELF files that are made here byte by byte (System V ABI, gABI chapter 4) and of maps.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "frontend/symbols.h"

static const struct symbols_of any = {SYMBOLS_ANY, SYMBOLS_NO_VMCS};
static const struct symbols_of root = {SYMBOLS_ROOT, SYMBOLS_NO_VMCS};
static const struct symbols_of guest = {SYMBOLS_GUEST, 0x5000};
static char why[512];

static const char *file_of(const void *bytes, size_t n)
{
    static char names[8][32];
    static unsigned next;
    char *name = names[next++ % 8];
    strcpy(name, "/tmp/symbols-XXXXXX");
    int fd = mkstemp(name);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    return name;
}

static void add(struct symbols *s, const char *fmt, const char *file)
{
    char spec[128];
    snprintf(spec, sizeof spec, fmt, file);
    if (!symbols_add(s, spec, why, sizeof why)) fail_msg("%s", why);
}

static void refused(const char *fmt, const char *file, const char *reason)
{
    struct symbols s = {0};
    char spec[128];
    snprintf(spec, sizeof spec, fmt, file);
    assert_false(symbols_add(&s, spec, why, sizeof why));
    if (!strstr(why, reason)) fail_msg("\"%s\" does not say \"%s\"", why, reason);
    assert_int_equal(s.files, 0);
}

static void is_at(const struct symbols *s, struct symbols_of of, u64 addr, const char *want)
{
    char text[64];
    assert_int_equal(symbols_text(s, of, addr, text, sizeof text), *want != 0);
    assert_string_equal(text, want);
}

static const char map[] = "0000000000000000 A __per_cpu_start\n"
                          "ffffffff81000000 T _text\n"
                          "ffffffff81000040 T startup_64\r\n"
                          "ffffffff81000040 t an_alias\n"
                          "ffffffff81000100 t helper\n"
                          "ffffffffc0001000 t inner\t[kvm_intel]\n";

static void maps(void **state)
{
    struct symbols s = {0};
    const char *f = file_of(map, sizeof map - 1);
    add(&s, "%s", f);
    is_at(&s, any, 0xffffffff81000000, "_text");
    is_at(&s, any, 0xffffffff8100003f, "_text+0x3f");
    is_at(&s, any, 0xffffffff81000041, "startup_64+0x1"); // the global one of two
    is_at(&s, any, 0xffffffffc0001010, "inner+0x10");
    is_at(&s, any, 0xffffffffc0002000, ""); // far behind the last
    is_at(&s, any, 0x10, "");               // an absolute symbol is a number
    is_at(&s, any, 0xffffffff80ffffff, "");
    u64 x;
    assert_true(symbols_address(&s, any, "an_alias", &x));
    assert_int_equal(x, 0xffffffff81000040);
    assert_true(symbols_address(&s, any, "helper+0x10", &x));
    assert_int_equal(x, 0xffffffff81000110);
    assert_false(symbols_address(&s, any, "help", &x));
    assert_false(symbols_address(&s, any, "helper+", &x));
    symbols_free(&s);
    add(&s, "%s,offset=0x1a000000", f); // KASLR
    is_at(&s, any, 0xffffffff9b000044, "startup_64+0x4");
    is_at(&s, any, 0xffffffff81000044, "");
    symbols_free(&s);
    unlink(f);
}

static void levels(void **state)
{
    struct symbols s = {0};
    static const char a[] = "0000000000001000 T of_host\n", b[] = "0000000000001000 T of_guest\n",
                      c[] = "0000000000001000 T of_this_guest\n";
    const char *fa = file_of(a, sizeof a - 1), *fb = file_of(b, sizeof b - 1), *fc = file_of(c, sizeof c - 1);
    add(&s, "root:%s", fa);
    add(&s, "guest:%s", fb);
    is_at(&s, root, 0x1000, "of_host");
    is_at(&s, guest, 0x1000, "of_guest");
    add(&s, "%s,vmcs=0x5000", fc);
    is_at(&s, root, 0x1000, "of_host");
    is_at(&s, guest, 0x1000, "of_this_guest");
    is_at(&s, (struct symbols_of){SYMBOLS_GUEST, 0x6000}, 0x1000, "of_guest");
    u64 x;
    assert_false(symbols_address(&s, root, "of_guest", &x));
    assert_true(symbols_address(&s, guest, "of_guest", &x));
    symbols_free(&s);
    refused("root:%s,vmcs=1", fa, "not with root");
    refused("%s,offset=x", fa, "\"offset=x\" is no number");
    refused("guest:,offset=1", "", "a file is wanted");
    unlink(fa), unlink(fb), unlink(fc);
}

static void full(void **state)
{
    struct symbols s = {0};
    const char *f = file_of(map, sizeof map - 1);
    for (unsigned i = 0; i < SYMBOLS_FILES_MAX; i++) add(&s, "%s", f);
    assert_false(symbols_add(&s, f, why, sizeof why));
    assert_non_null(strstr(why, "no more than 16"));
    symbols_free(&s);
    unlink(f);
}

struct image { // an ELF64 file of one section of code at 0x1000, and its symbols
    Elf64_Ehdr header;
    Elf64_Shdr section[5];
    Elf64_Sym symbol[8];
    char strings[64];
};
#define NAMES "\0main\0inside\0label\0absolute\0away\0.Llocal"
static void image_make(struct image *i)
{
    memset(i, 0, sizeof *i);
    memcpy(i->header.e_ident, ELFMAG, SELFMAG);
    i->header.e_ident[EI_CLASS] = ELFCLASS64;
    i->header.e_ident[EI_DATA] = ELFDATA2LSB;
    i->header.e_ident[EI_VERSION] = i->header.e_version = EV_CURRENT;
    i->header.e_type = ET_EXEC;
    i->header.e_machine = EM_X86_64;
    i->header.e_ehsize = sizeof i->header;
    i->header.e_shoff = offsetof(struct image, section);
    i->header.e_shentsize = sizeof i->section[0];
    i->header.e_shnum = 5;
    i->section[1] =
        (Elf64_Shdr){.sh_type = SHT_NOBITS, .sh_flags = SHF_ALLOC, .sh_addr = 0x1000, .sh_size = 0x200};
    i->section[2] = (Elf64_Shdr){.sh_type = SHT_SYMTAB,
                                 .sh_offset = offsetof(struct image, symbol),
                                 .sh_size = sizeof i->symbol,
                                 .sh_link = 3,
                                 .sh_entsize = sizeof i->symbol[0]};
    i->section[3] = (Elf64_Shdr){
        .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct image, strings), .sh_size = sizeof i->strings};
    i->section[4] =
        (Elf64_Shdr){.sh_type = SHT_NOBITS, .sh_flags = SHF_ALLOC, .sh_size = 0x100}; // per processor
    memcpy(i->strings, NAMES, sizeof NAMES);
    const u8 func = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), notype = ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE);
    i->symbol[1] =
        (Elf64_Sym){.st_name = 1, .st_info = func, .st_shndx = 1, .st_value = 0x1000, .st_size = 0x100};
    i->symbol[2] =
        (Elf64_Sym){.st_name = 6, .st_info = func, .st_shndx = 1, .st_value = 0x1040, .st_size = 0x10};
    i->symbol[3] = (Elf64_Sym){.st_name = 13, .st_info = notype, .st_shndx = 1, .st_value = 0x1180};
    i->symbol[4] = (Elf64_Sym){.st_name = 19, .st_info = func, .st_shndx = SHN_ABS, .st_value = 0x1188};
    i->symbol[5] = (Elf64_Sym){.st_name = 28, .st_info = func, .st_shndx = SHN_UNDEF, .st_value = 0x1190};
    i->symbol[6] = (Elf64_Sym){.st_name = 33, .st_info = notype, .st_shndx = 1, .st_value = 0x1198};
    i->symbol[7] = (Elf64_Sym){.st_name = 28, .st_info = func, .st_shndx = 4, .st_value = 0x20};
}

static void elf(void **state)
{
    struct image i;
    struct symbols s = {0};
    image_make(&i);
    const char *f = file_of(&i, sizeof i);
    add(&s, "%s", f);
    is_at(&s, any, 0x1000, "main");
    is_at(&s, any, 0x1048, "inside+0x8");
    is_at(&s, any, 0x1050, "main+0x50");  // behind the smaller one that lies in it
    is_at(&s, any, 0x1100, "");           // between two
    is_at(&s, any, 0x11a0, "label+0x20"); // without a size: to the end of its section
    is_at(&s, any, 0x1200, "");
    is_at(&s, any, 0x20, "");
    symbols_free(&s);
    unlink(f);

    i.header.e_type = ET_REL;
    f = file_of(&i, sizeof i);
    refused("%s", f, "relocatable");
    unlink(f);
    i.header.e_type = ET_EXEC;
    i.header.e_shnum = 2;
    f = file_of(&i, sizeof i);
    refused("%s", f, "stripped");
    unlink(f);
}

// Whatever a broken file does, it ends with a line.
static void broken(void **state)
{
    struct image i;
    image_make(&i);
    for (unsigned at = 4; at < sizeof i; at++) {
        struct symbols s = {0};
        u8 bytes[sizeof i];
        memcpy(bytes, &i, sizeof i);
        bytes[at] ^= 0xFF;
        const char *f = file_of(bytes, at % 3 ? sizeof bytes : at);
        *why = 0;
        if (symbols_add(&s, f, why, sizeof why)) {
            for (u64 a = 0xFF0; a < 0x1210; a += 8) symbols_find(&s, any, a);
            symbols_free(&s);
        } else {
            assert_non_null(strstr(why, f));
            assert_null(strchr(why, '\n'));
        }
        unlink(f);
    }
}

static void no_symbols(void **state)
{
    refused("%s", "/nonexistent/file", "No such file");
    refused("%s", "/tmp", "directory");
    refused("%s", "/dev/null", "Invalid argument");
    const char *f = file_of("", 0);
    refused("%s", f, "it is empty");
    unlink(f);
    f = file_of("hello\n", 6);
    refused("%s", f, "neither ELF nor lines");
    unlink(f);
    static const char hidden[] = "0000000000000000 T _text\n0000000000000000 t secret\n";
    f = file_of(hidden, sizeof hidden - 1);
    refused("%s", f, "who is not root");
    unlink(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps), cmocka_unit_test(levels), cmocka_unit_test(full),
        cmocka_unit_test(elf),  cmocka_unit_test(broken), cmocka_unit_test(no_symbols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
