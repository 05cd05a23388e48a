#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 65536

// Where the linker's data end.
extern unsigned char __heap_base;

static uintptr_t next;

_Noreturn void abort(void) { __builtin_trap(); }

// Each block has its size before it, for realloc.
void *malloc(size_t size) {
    if (next == 0) next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    if (size > SIZE_MAX / 2) abort();
    uintptr_t block = next + 16;
    uintptr_t end = (block + size + 15) & ~(uintptr_t)15;
    size_t has = __builtin_wasm_memory_size(0) * (size_t)PAGE_BYTES;
    if (end > has && __builtin_wasm_memory_grow(0, (end - has + PAGE_BYTES - 1) / PAGE_BYTES) == SIZE_MAX) abort();
    ((size_t *)block)[-1] = size;
    next = end;
    return (void *)block;
}

void *calloc(size_t count, size_t size) {
    size_t all;
    if (__builtin_mul_overflow(count, size, &all)) abort();
    // Memory of WebAssembly begins as zeros, and none is used twice.
    return malloc(all);
}

void *realloc(void *old, size_t size) {
    void *new = malloc(size);
    if (old != NULL) {
        size_t had = ((size_t *)old)[-1];
        memcpy(new, old, had < size ? had : size);
    }
    return new;
}

void free(void *memory) { (void)memory; }

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    for (size_t at = 0; at < size; at++) ((unsigned char *)to)[at] = ((const unsigned char *)from)[at];
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to <= (uintptr_t)from) return memcpy(to, from, size);
    while (size-- > 0) ((unsigned char *)to)[size] = ((const unsigned char *)from)[size];
    return to;
}

void *memset(void *to, int byte, size_t size) {
    for (size_t at = 0; at < size; at++) ((unsigned char *)to)[at] = (unsigned char)byte;
    return to;
}

int memcmp(const void *one, const void *other, size_t size) {
    for (size_t at = 0; at < size; at++) {
        int difference = ((const unsigned char *)one)[at] - ((const unsigned char *)other)[at];
        if (difference != 0) return difference;
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length] != 0) length++;
    return length;
}
