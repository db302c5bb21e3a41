/* Integer workloads: sieve, sort, CRC-32, SHA-256, an LZ compressor. */
#include "bench.h"

/* ---- the primes below 2^20, eight times over ---- */

#define SIEVE_SIZE (1u << 20)
static uint8_t *sieve_flags;

static void sieve_prepare(void)
{
    if (!sieve_flags) sieve_flags = page_alloc(SIEVE_SIZE / 4096);
}

static uint64_t sieve_run(unsigned scale)
{
    uint64_t found = 0;
    for (unsigned round = 0; round < 8 * scale; round++) {
        for (unsigned i = 0; i < SIEVE_SIZE; i++) ((volatile uint8_t *)sieve_flags)[i] = 1;
        for (unsigned i = 2; i * i < SIEVE_SIZE; i++)
            if (sieve_flags[i])
                for (unsigned j = i * i; j < SIEVE_SIZE; j += i) sieve_flags[j] = 0;
        for (unsigned i = 2; i < SIEVE_SIZE; i++) found += sieve_flags[i];
    }
    return found;
}

/* ---- quicksort of 2^18 numbers, four times ---- */

#define SORT_COUNT (1u << 18)
static uint32_t *sort_numbers;

static void sort_prepare(void)
{
    if (!sort_numbers) sort_numbers = page_alloc(SORT_COUNT * 4 / 4096);
}

static void quicksort(uint32_t *a, int64_t n)
{
    while (n > 12) {
        uint32_t pivot = a[n / 2];
        int64_t i = 0, j = n - 1;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j + 1 < n - i) {
            quicksort(a, j + 1);
            a += i;
            n -= i;
        } else {
            quicksort(a + i, n - i);
            n = j + 1;
        }
    }
    for (int64_t i = 1; i < n; i++) {
        uint32_t v = a[i];
        int64_t j = i;
        for (; j > 0 && a[j - 1] > v; j--) a[j] = a[j - 1];
        a[j] = v;
    }
}

static uint64_t sort_run(unsigned scale)
{
    uint64_t state = 88172645463325252, sum = 0;
    for (unsigned round = 0; round < 4 * scale; round++) {
        for (unsigned i = 0; i < SORT_COUNT; i++) sort_numbers[i] = (uint32_t)bench_random(&state);
        quicksort(sort_numbers, SORT_COUNT);
        for (unsigned i = 0; i < SORT_COUNT; i += 1000) sum = bench_mix(sum, sort_numbers[i]);
        for (unsigned i = 1; i < SORT_COUNT; i++)
            if (sort_numbers[i - 1] > sort_numbers[i]) return 0;
    }
    return sum;
}

/* ---- CRC-32 by table, 16 MiB ---- */

#define DATA_SIZE (1u << 20)
static uint8_t *data;
static uint32_t crc_table[256];

static void data_prepare(void)
{
    if (data) return;
    data = page_alloc(DATA_SIZE / 4096);
    /* Text of a sort: words from a small vocabulary, so that the compressor has something to find. */
    static const char *const words[] = {"guest ", "hypervisor ", "page ",  "entry ",   "exit ", "the ",
                                        "a ",     "of ",         "field ", "control ", "and ",  "host ",
                                        "to ",    "memory ",     "table ", "is "};
    uint64_t state = 1234567;
    for (unsigned i = 0; i < DATA_SIZE;) {
        uint64_t r = bench_random(&state);
        if (r % 7 == 0) {
            data[i++] = (uint8_t)(r >> 32);
            continue;
        }
        for (const char *w = words[r >> 20 & 15]; *w && i < DATA_SIZE; w++) data[i++] = (uint8_t)*w;
    }
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (unsigned k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
        crc_table[i] = c;
    }
}

static uint64_t crc32_run(unsigned scale)
{
    uint32_t crc = 0xffffffff;
    for (unsigned round = 0; round < 16 * scale; round++)
        for (unsigned i = 0; i < DATA_SIZE; i++) crc = crc_table[(crc ^ data[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

/* ---- SHA-256, 4 MiB ---- */

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t ror(uint32_t v, unsigned n) { return v >> n | v << (32 - n); }

static void sha256_block(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], s[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 |
               p[4 * i + 3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(s, h, sizeof(s));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t e = s[4], a = s[0];
        uint32_t t1 =
            s[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + sha_k[i] + w[i];
        uint32_t t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6], s[6] = s[5], s[5] = e, s[4] = s[3] + t1;
        s[3] = s[2], s[2] = s[1], s[1] = a, s[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++) h[i] += s[i];
}

static uint64_t sha256_run(unsigned scale)
{
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (unsigned round = 0; round < 4 * scale; round++)
        for (unsigned i = 0; i < DATA_SIZE; i += 64) sha256_block(h, data + i);
    return (uint64_t)h[0] << 32 | h[1];
}

/* ---- an LZ compressor with a hash of three bytes, and back, 4 times 1 MiB ---- */

static uint8_t *lz_packed, *lz_back;
static uint32_t *lz_heads;
#define LZ_HASH_BITS 14
#define LZ_MAX_MATCH 66

static void lz_prepare(void)
{
    data_prepare();
    if (lz_packed) return;
    lz_packed = page_alloc(2 * DATA_SIZE / 4096);
    lz_back = page_alloc(DATA_SIZE / 4096);
    lz_heads = page_alloc((4 << LZ_HASH_BITS) / 4096);
}

/* Tokens: 0 literal, or length - 2 and a 16-bit distance. */
static size_t lz_pack(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t o = 0;
    memset(lz_heads, 0, 4 << LZ_HASH_BITS);
    for (size_t i = 0; i < n;) {
        size_t length = 0, from = 0;
        if (i + 3 <= n) {
            uint32_t key = (uint32_t)(in[i] | in[i + 1] << 8 | in[i + 2] << 16);
            uint32_t *head = &lz_heads[key * 2654435761u >> (32 - LZ_HASH_BITS)];
            from = *head;
            *head = (uint32_t)i;
            if (from < i && i - from < 65536)
                while (length < LZ_MAX_MATCH && i + length < n && in[from + length] == in[i + length])
                    length++;
        }
        if (length >= 3) {
            out[o++] = (uint8_t)(length - 2);
            out[o++] = (uint8_t)(i - from);
            out[o++] = (uint8_t)((i - from) >> 8);
            i += length;
        } else {
            out[o++] = 0;
            out[o++] = in[i++];
        }
    }
    return o;
}

static size_t lz_unpack(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t o = 0;
    for (size_t i = 0; i < n;) {
        unsigned token = in[i++];
        if (!token) {
            out[o++] = in[i++];
            continue;
        }
        size_t from = o - (in[i] | (size_t)in[i + 1] << 8);
        i += 2;
        for (unsigned k = 0; k < token + 2; k++) out[o++] = out[from++];
    }
    return o;
}

static uint64_t lz_run(unsigned scale)
{
    uint64_t sum = 0;
    for (unsigned round = 0; round < 4 * scale; round++) {
        size_t packed = lz_pack(data, DATA_SIZE, lz_packed);
        size_t back = lz_unpack(lz_packed, packed, lz_back);
        if (back != DATA_SIZE || memcmp(data, lz_back, DATA_SIZE)) return 0;
        sum = bench_mix(sum, packed);
        for (size_t i = 0; i < packed; i += 997) sum = bench_mix(sum, lz_packed[i]);
    }
    return sum;
}

const struct workload bench_integer[] = {
    {"sieve", "the primes below 2^20, 8 times", sieve_prepare, sieve_run, NULL},
    {"sort", "quicksort of 2^18 numbers, 4 times", sort_prepare, sort_run, NULL},
    {"crc32", "CRC-32 by table, 16 MiB", data_prepare, crc32_run, NULL},
    {"sha256", "SHA-256, 4 MiB", data_prepare, sha256_run, NULL},
    {"lz", "an LZ compressor and back, 4 MiB", lz_prepare, lz_run, NULL},
    {0},
};
