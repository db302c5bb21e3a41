// The files that hold symbols: ELF with a symbol table, and the text of System.map and /proc/kallsyms.
#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/symbols_read.h"

// realloc, doubled until `n` more fit.
static bool grow(void **array, size_t *room, size_t used, size_t n, size_t each)
{
    size_t want = *room ? *room : 1024;
    while (want < used + n) want *= 2;
    if (want == *room) return true;
    void *more = realloc(*array, want * each);
    if (!more) return false;
    *array = more;
    *room = want;
    return true;
}

void symbols_raw_add(struct symbols_reading *r, struct symbols_raw s, const char *name, size_t name_n)
{
    if (!grow((void **)&r->symbol, &r->room, r->n, 1, sizeof *r->symbol) ||
        !grow((void **)&r->names, &r->names_room, r->names_n, name_n + 1, 1)) {
        r->no_memory = true;
        return;
    }
    s.name = r->names_n;
    memcpy(r->names + s.name, name, name_n);
    r->names[s.name + name_n] = 0;
    r->names_n += name_n + 1;
    r->symbol[r->n++] = s;
}

// Functions before what has no type (assembler's labels) before data; global before local.
static u8 elf_rank(const GElf_Sym *s)
{
    unsigned type = GELF_ST_TYPE(s->st_info);
    return (u8)((type == STT_FUNC     ? 4
                 : type == STT_NOTYPE ? 2
                                      : 0) +
                (GELF_ST_BIND(s->st_info) != STB_LOCAL));
}

static void elf_symbol(struct symbols_reading *r, Elf *elf, bool executable, size_t strings,
                       const GElf_Sym *s)
{
    unsigned type = GELF_ST_TYPE(s->st_info);
    const char *name = elf_strptr(elf, strings, s->st_name);
    GElf_Shdr in;
    if (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE) return;
    if (!name || !*name || name[0] == '$' || (name[0] == '.' && name[1] == 'L')) return;
    // What is absolute is a number, and no address; the same holds of Linux's section of per-processor
    // variables, which begins at 0.
    if (s->st_shndx == SHN_UNDEF || s->st_shndx >= SHN_LORESERVE) return;
    Elf_Scn *section = elf_getscn(elf, s->st_shndx);
    if (!section || !gelf_getshdr(section, &in) || !(in.sh_flags & SHF_ALLOC)) return;
    if (executable && in.sh_addr == 0) return;
    symbols_raw_add(
        r,
        (struct symbols_raw){
            .addr = s->st_value, .size = s->st_size, .limit = in.sh_addr + in.sh_size, .rank = elf_rank(s)},
        name, strlen(name));
}

const char *symbols_read_elf(struct symbols_reading *r, char *bytes, size_t n)
{
    GElf_Ehdr header;
    const char *wrong = NULL;
    bool found = false;
    if (elf_version(EV_CURRENT) == EV_NONE) return "the host's libelf is too old";
    Elf *elf = elf_memory(bytes, n);
    if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header)) {
        wrong = "it is a broken ELF file";
        goto out;
    }
    if (header.e_type == ET_REL) {
        wrong = "it is relocatable: where its sections are is not known";
        goto out;
    }
    for (unsigned pass = 0; pass < 2 && !found; pass++) { // without .symtab, .dynsym
        for (Elf_Scn *section = elf_nextscn(elf, NULL); section; section = elf_nextscn(elf, section)) {
            GElf_Shdr h;
            if (!gelf_getshdr(section, &h) || h.sh_type != (pass ? SHT_DYNSYM : SHT_SYMTAB)) continue;
            Elf_Data *d = elf_getdata(section, NULL);
            GElf_Sym s;
            for (int i = 0; d && gelf_getsym(d, i, &s); i++)
                elf_symbol(r, elf, header.e_type == ET_EXEC, h.sh_link, &s);
            found = found || r->n;
        }
    }
out:
    elf_end(elf);
    return wrong;
}

static bool hex_digit(char c, u64 *x)
{
    unsigned d = c >= '0' && c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
    if (d > 15) return false;
    *x = *x << 4 | d;
    return true;
}

// A line is "ADDRESS TYPE NAME", and in kallsyms a tab and "[MODULE]" where it is a module's.
static bool map_line(struct symbols_reading *r, const char *at, const char *end)
{
    u64 addr = 0;
    const char *digits = at;
    while (at < end && hex_digit(*at, &addr)) at++;
    if (at == digits || at - digits > 16 || end - at < 4 || at[0] != ' ' || at[2] != ' ') return false;
    char type = at[1];
    const char *name = at += 3;
    while (at < end && (u8)*at > ' ') at++;
    if (at == name) return false;
    if ((type | 0x20) == 'a' || (type | 0x20) == 'u') return true; // numbers, and what is elsewhere
    bool code = (type | 0x20) == 't' || (type | 0x20) == 'w';
    symbols_raw_add(r,
                    (struct symbols_raw){.addr = addr,
                                         .limit = UINT64_MAX,
                                         .rank = (u8)((code ? 4 : 0) + (type >= 'A' && type <= 'Z'))},
                    name, (size_t)(at - name));
    return true;
}

const char *symbols_read_map(struct symbols_reading *r, const char *bytes, size_t n)
{
    const char *end = bytes + n, *next;
    bool any = false;
    for (const char *at = bytes; at < end; at = next) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        next = line ? line + 1 : end;
        if (!line) line = end;
        if (line > at && line[-1] == '\r') line--;
        if (line == at) continue;
        if (!map_line(r, at, line))
            return "it is neither ELF nor lines of an address, a type and a name (System.map)";
    }
    for (size_t i = 0; i < r->n && !any; i++) any = r->symbol[i].addr != 0;
    return r->n && !any ? "all its addresses are 0: kallsyms is so for who is not root" : NULL;
}
