// Integer work: tables, comparisons, shifts and rotates, branches that are hard to guess.
#include "bench.h"

u64 work_sieve(void)
{
    enum { LIMIT = 4000000, ROUNDS = 4 };
    u8 *composite = get(LIMIT);
    u64 sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        memset(composite, 0, LIMIT);
        for (u32 i = 2; i < LIMIT; i++) {
            if (composite[i]) continue;
            sum += i;
            for (u64 j = (u64)i * i; j < LIMIT; j += i) composite[j] = 1;
        }
    }
    free(composite);
    return sum;
}

static void quicksort(u32 *a, long n)
{
    while (n > 16) {
        u32 pivot = a[n / 2];
        long i = 0, j = n - 1;
        for (;;) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i >= j) break;
            u32 t = a[i];
            a[i++] = a[j];
            a[j--] = t;
        }
        long left = j + 1;
        quicksort(a, left);
        a += left;
        n -= left;
    }
    for (long i = 1; i < n; i++) {
        u32 key = a[i];
        long j = i;
        for (; j && a[j - 1] > key; j--) a[j] = a[j - 1];
        a[j] = key;
    }
}

u64 work_sort(void)
{
    enum { COUNT = 1200000 };
    u32 *a = get(COUNT * sizeof(*a));
    u64 state = 88172645463325252u, sum = 0;
    for (long i = 0; i < COUNT; i++) a[i] = (u32)next_random(&state);
    quicksort(a, COUNT);
    for (long i = 0; i < COUNT; i++) sum = sum * 31 + a[i];
    free(a);
    return sum;
}

u64 work_crc(void)
{
    enum { SIZE = 1 << 20, ROUNDS = 40 };
    u32 table[256], crc = ~0u;
    for (u32 i = 0; i < 256; i++) {
        u32 c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table[i] = c;
    }
    u8 *data = get(SIZE);
    u64 state = 1234567;
    for (int i = 0; i < SIZE; i++) data[i] = (u8)next_random(&state);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SIZE; i++) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    free(data);
    return crc;
}

static u32 rotate(u32 x, int n) { return x >> n | x << (32 - n); }

// SHA-256's constants are the fractional parts of cube and square roots of primes: computed, in integers.
static u32 root_fraction(u32 prime, int degree)
{
    unsigned __int128 want = (unsigned __int128)prime << 32 * degree, low = 0, high = (u64)1 << 36;
    while (high - low > 1) {
        unsigned __int128 middle = (low + high) / 2, power = middle;
        for (int i = 1; i < degree; i++) power *= middle;
        if (power <= want)
            low = middle;
        else
            high = middle;
    }
    return (u32)low;
}

static void sha256_block(u32 h[8], const u32 k[64], const u8 *block)
{
    u32 w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (u32)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        u32 a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof(s));
    for (int i = 0; i < 64; i++) {
        u32 e = s[4], a = s[0];
        u32 t1 =
            s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
        u32 t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof(*s));
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

u64 work_sha256(void)
{
    enum { BLOCKS = 60000 };
    u32 k[64], h[8], n = 0;
    for (u32 prime = 2; n < 64; prime++) {
        u32 divisor = 2;
        while (prime % divisor) divisor++;
        if (divisor < prime) continue;
        k[n] = root_fraction(prime, 3);
        if (n < 8) h[n] = root_fraction(prime, 2);
        n++;
    }
    u8 block[64];
    u64 state = 42;
    for (int i = 0; i < 64; i++) block[i] = (u8)next_random(&state);
    for (int i = 0; i < BLOCKS; i++) {
        block[i & 63]++;
        sha256_block(h, k, block);
    }
    return (u64)h[0] << 32 | h[7];
}

// A small LZ77: greedy matches through a hash of three bytes, then back again.
static size_t lz_pack(const u8 *in, size_t size, u8 *out, u32 *table)
{
    size_t o = 0, i = 0;
    memset(table, 0xff, sizeof(*table) << 14);
    while (i < size) {
        size_t length = 0, at = 0;
        if (i + 4 < size) {
            u32 hash = ((u32)in[i] << 16 | in[i + 1] << 8 | in[i + 2]) * 2654435761u >> 18;
            at = table[hash];
            table[hash] = (u32)i;
            if (at < i && i - at < 65536)
                while (length < 255 && i + length < size && in[at + length] == in[i + length]) length++;
        }
        if (length >= 4) {
            out[o++] = (u8)length;
            out[o++] = (u8)(i - at);
            out[o++] = (u8)((i - at) >> 8);
            i += length;
        } else {
            out[o++] = 0;
            out[o++] = in[i++];
        }
    }
    return o;
}

static size_t lz_unpack(const u8 *in, size_t size, u8 *out)
{
    size_t o = 0;
    for (size_t i = 0; i < size;) {
        u8 length = in[i++];
        if (!length) {
            out[o++] = in[i++];
            continue;
        }
        size_t distance = in[i] | in[i + 1] << 8;
        i += 2;
        for (; length; length--, o++) out[o] = out[o - distance];
    }
    return o;
}

u64 work_lz(void)
{
    enum { SIZE = 1 << 20, ROUNDS = 8 };
    u8 *text = get(SIZE), *packed = get(2 * SIZE), *back = get(SIZE);
    u32 *table = get(sizeof(*table) << 14);
    u64 state = 7, sum = 0;
    for (int i = 0; i < SIZE;) { // words of a small vocabulary
        u64 word = next_random(&state) % 900 * 7919;
        for (int n = 2 + (int)(word % 7); n && i < SIZE; n--, word /= 3) text[i++] = (u8)('a' + word % 26);
        if (i < SIZE) text[i++] = ' ';
    }
    for (int round = 0; round < ROUNDS; round++) {
        text[round * 1000]++;
        size_t size = lz_pack(text, SIZE, packed, table);
        if (lz_unpack(packed, size, back) != SIZE || memcmp(text, back, SIZE)) return 0;
        sum = sum * 31 + size;
    }
    free(text);
    free(packed);
    free(back);
    free(table);
    return sum;
}
