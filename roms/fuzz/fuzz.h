/*
 * The VMCS fuzzer: what its files share. main.c says what it is for.
 *
 * A case is made of *steps*, drawn from its number alone: what a step is never depends on whether another one
 * was applied, so a case can be made smaller by leaving steps out (keep=, skip=).
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include "vmx.h"

#include "fields.h"

#define STEPS_MAX  192
#define ENTRIES    6 /* of a case at most: after an exit it is often entered again */
#define BREAKPOINT 4
#define INTERRUPT  0x51 /* vectors of external interrupts that a case may have */
#define NOTIFY     0x62
#define NOTIFY_LOW 0x31

/* What the processors offer, by words: those of the capability MSRs and of CPUID. */
enum word {
    W_PIN,
    W_PROC,
    W_PROC2,
    W_EXIT,
    W_ENTRY,
    W_EPT,
    W_MISC,
    W_CR4,
    W_1C,
    W_7B,
    W_7C,
    W_E1C,
    W_E1D,
    W_XSAVE,
    W_VMFUNC,
    W_BASIC,
    W_MSRS,
    W_PROC3,
    W_EXIT2,
    WORDS
};
struct offer {
    uint32_t have[WORDS]; /* bits that both machines have */
    uint32_t lack[WORDS]; /* bits that neither has */
};
extern struct offer offer;
static inline bool have(enum word w, uint32_t bits) { return (offer.have[w] & bits) == bits; }

/* Memory of the guest: its first 128 KiB, by linear and by guest-physical addresses (arena.c). */
enum {
    A_IVT = 0x0000,
    A_CODE = 0x1000, /* two pages */
    A_STACK = 0x3000,
    A_RSP = 0x3800,
    A_DATA = 0x4000, /* two pages */
    A_GDT = 0x6000,
    A_TSS = 0x6200,
    A_TSS2 = 0x6400,
    A_LDT = 0x6600,
    A_IDT = 0x7000,
    A_STUBS = 0x8000,
    A_APIC = 0x9000, /* the APIC-access page, and beside it a page that is not mapped */
    A_NOTHING = 0xa000,
    A_PML4 = 0x10000,
    A_PDPT = 0x11000,
    A_PD = 0x12000,
    A_PT = 0x13000,
    A_PD32 = 0x14000,
    A_PT32 = 0x15000,
    A_PDPT_PAE = 0x16000,
    A_SIZE = 0x20000,
    A_MAPPED = 12, /* pages from 0 on in the guest's page tables */
};
#define A_LARGE 0x200000ul   /* the same by a 2-MiB entry of EPT */
#define A_HUGE  0x40000000ul /* physical memory from 0 on by a 1-GiB entry, not writable */

/* Selectors of the guest's GDT beyond those of rt.h. */
enum {
    S_LDT = 0x58,
    S_CALL_GATE = 0x68,
    S_TASK_GATE = 0x70,
    S_TSS2 = 0x78,
    S_ABSENT = 0x80,
    S_READ_ONLY = 0x88,
    S_EXECUTE_ONLY = 0x90,
    S_CONFORMING = 0x98,
    S_EXPAND_DOWN = 0xa0,
    S_GDT_LIMIT = 0xff
};

enum mode { REAL, PROTECTED, PROTECTED16, PAGED, PAGED_USER, PAE, V86, LONG, LONG_USER, COMPAT, MODES };
static inline bool mode_long(enum mode m) { return m >= LONG; }
static inline bool mode_paged(enum mode m) { return m >= PAGED; }

struct guest_case {
    uint64_t number;
    enum mode mode;
    bool ept;
    uint8_t interrupts[2]; /* vectors of what is pending at the first entry, or 0; the second is the
                              notification of posted interrupts, if it has its own */
    bool time, chance; /* the program reads what differs from machine to machine: RAX and RDX, or RCX, are not
                          looked at */
    uint64_t f[FIELD_COUNT];
    struct vmx_regs regs;
    uint64_t cr2, dr[4], dr6;
    unsigned steps;
};
extern struct guest_case kase;

/* random.c */
void random_begin(uint64_t seed, uint64_t number, unsigned section);
uint64_t random64(void);
unsigned below(unsigned n);
uint64_t random_bit(uint64_t among);                          /* one of its bits, 0 if it has none */
static inline bool odds(unsigned n) { return below(n) == 0; } /* one in n */
#define PICK(list) ((list)[below(sizeof(list) / sizeof((list)[0]))])
/* The next step of the case: is it to be applied? Its name and value are for people. */
bool step(const char *name, const char *more, uint64_t value);
void steps_begin(void);
void steps_read(void);         /* keep=, skip= of the command line */
void steps_leave_out(int one); /* one more, or -1 */
void steps_print(bool yes);
/* The numbers of a list as "key=1,2-5": calls each. `base` of the numbers is 10 or 16. */
unsigned list_read(const char *key, unsigned base, uint64_t *to, unsigned max);

/* arena.c: the guest's memory, EPT and what else the VMCS points to */
void arena_init(void);
void arena_reset(void);   /* as it was; and the guest's tables and EPT */
void arena_changes(void); /* steps that change it */
/* EPT as it was, and the page accessible; false if it is not the arena's. */
bool arena_open_ept(uint64_t guest_physical);
uint64_t arena_physical(void);
uint8_t *arena_at(uint32_t offset);
uint64_t arena_digest(uint64_t h, bool print);
extern uint64_t areas_msr_store, areas_virtual_apic, areas_ept;
/* the page-modification log and the virtualization-exception information; sub-page permissions for the data
   page; a VMCS to be linked */
extern uint64_t areas_spare, areas_sppt, areas_shadow;
uint64_t *arena_ept_entry(uint32_t offset);
uint64_t *areas_posted(void);       /* the posted-interrupt descriptor, eight words */
uint64_t *areas_pid_pointers(void); /* the PID-pointer table, two entries are used */

/* guests.c, controls.c, events.c, mutate.c, program.c: the parts of a case */
void guest_state(void);
void guest_changes(void);
void host_state(void);
void controls_choose(void);
void controls_agree(void);
void events_choose(void);
void mutations(void);
bool mutation_live(enum field *field, uint64_t *old); /* of the current VMCS; false: nothing was changed */
void program_make(void);
/* extras.c: what the newer controls point to; after controls_agree */
void extras_choose(void);
void posting_choose(void);

/* cases.c: a whole case, and how it goes on after an exit */
void offer_own(uint32_t own[WORDS], bool debugctl);
void make_case(uint64_t seed, uint64_t number);
/* Undoes what the exit was for and says whether the case is worth another entry. */
bool go_on(const struct vmx_exit *e);
/* where the running GDT and IDT are */
void host_tables(uint64_t *gdt, uint64_t *idt);

/* report.c */
uint64_t mix(uint64_t h, uint64_t v);
void report(const struct vmx_exit *e);
/* Known differences between machines that would hide others, a letter each: r for RFLAGS.RF, n for virtual
   NMIs, p for addresses in the page-modification log. */
void report_tolerate(const char *letters);
bool report_tolerates(char letter);
void report_details(const struct vmx_exit *e);
bool report_has_length(uint32_t reason, uint32_t event, uint32_t original);

#endif
