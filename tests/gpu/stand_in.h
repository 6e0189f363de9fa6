// A GPU's blocks and threads on one processor, for proofs of indexing, synchronisation and mathematics; not of speed.
//
// Each thread of a block is a fibre. Fibres run in an order drawn anew in each round, from a seed, some blocks far more often than
// others, and give way where a thread would wait: at barriers, at exchanges within a warp, and while a bell has not rung. Shared
// memory begins as NaN, a copy into it arrives only when it is waited for, threads that meet at different barriers are an error,
// and so is a round in which nobody can go on.
#pragma once
#define STAND_IN
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#include <sys/mman.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define DEVICE static inline
#define SHARED(type, name) type* const name = (type*)stand_in::now->block->shared.data()
#define threadIdx (stand_in::now->index)
#define blockIdx (stand_in::now->block->index)
#define blockDim (stand_in::run.block_size)
#define gridDim (stand_in::run.grid_size)
#define __syncthreads() stand_in::wait(stand_in::now->block->barrier, stand_in::run.block_size.x, __LINE__, stand_in::run.block_barriers)
#define __syncwarp() stand_in::together(__LINE__)

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
static inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
using std::tanh;

namespace stand_in {
struct Index { unsigned x; };
struct Barrier { unsigned here = 0, generation = 0; int line = 0; };
struct Warp { Barrier barrier; float value[32]; unsigned operand[32][6]; };
struct Block { Index index; unsigned pace = 1; std::vector<float> shared; Barrier barrier; std::vector<Warp> warps; };
struct Copy { float* to; float value[4]; };
struct Fibre { ucontext_t context; void* stack = nullptr; Block* block; Index index; bool done = false; std::vector<Copy> copies; };
struct Run { Index block_size, grid_size; long block_barriers = 0, warp_barriers = 0, bells = 0, progress = 0; };

static Fibre* now;
static Run run;
static ucontext_t scheduler;
static std::string problem;
static void (*body)(void**);
static void** arguments;
constexpr size_t STACK = 1 << 17;

static void give_way() { swapcontext(&now->context, &scheduler); }

static void wait(Barrier& b, unsigned all, int line, long& count) {
    if (b.here && b.line != line) problem = "threads met at the barriers of lines " + std::to_string(b.line) + " and " + std::to_string(line);
    b.line = line;
    const unsigned mine = b.generation;
    if (++b.here == all) { b.here = 0; b.generation++; count++; run.progress++; return; }
    while (b.generation == mine) give_way();
}
static Warp& warp() { return now->block->warps[now->index.x / 32]; }
static void together(int line) { wait(warp().barrier, std::min(32u, run.block_size.x), line, run.warp_barriers); }

static void enter() {
    body(arguments);
    if (!now->copies.empty()) problem = "a copy into shared memory was never waited for";
    now->done = true;
    run.progress++;
    give_way();
}

static void prepare(Fibre& f, Block* block, unsigned thread) {
    f.block = block; f.index = {thread}; f.done = false; f.copies.clear();
    if (!f.stack) f.stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    getcontext(&f.context);
    f.context.uc_stack = {f.stack, 0, STACK};
    f.context.uc_link = &scheduler;
    makecontext(&f.context, enter, 0);
}

static void rounds(std::vector<Fibre>& fibres, std::mt19937& random) {
    std::vector<Fibre*> left;
    for (auto& f : fibres) left.push_back(&f);
    bool everyone = false;
    while (!left.empty() && problem.empty()) {
        std::shuffle(left.begin(), left.end(), random);
        const long before = run.progress;
        for (Fibre* f : left) {
            if (!everyone && random() % f->block->pace) continue;
            now = f;
            swapcontext(&scheduler, &f->context);
            if (!problem.empty()) return;
        }
        std::erase_if(left, [](Fibre* f) { return f->done; });
        if (run.progress == before && everyone) problem = "no thread can go on: deadlock";
        everyone = run.progress == before;
    }
}

// The whole grid; of a cooperative launch all blocks at once, of another one after the other, in any order.
static const char* launch(void (*f)(void**), void** args, unsigned grid, unsigned block, size_t shared, int cooperative, unsigned seed, long* counts) {
    body = f; arguments = args; problem.clear(); run = {{block}, {grid}};
    std::mt19937 random(seed);
    std::vector<unsigned> order(grid);
    for (unsigned i = 0; i < grid; i++) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    const unsigned together = cooperative ? grid : 1;
    std::vector<Fibre> fibres(together * block);
    for (unsigned first = 0; first < grid && problem.empty(); first += together) {
        std::vector<Block> blocks(together);
        for (unsigned i = 0; i < together; i++) {
            blocks[i].index = {order[first + i]};
            blocks[i].pace = together > 1 ? 1u << random() % 7 : 1;  // some are 64 times as slow as others
            blocks[i].shared.assign(shared / 4 + 4, std::numeric_limits<float>::quiet_NaN());
            blocks[i].warps.resize((block + 31) / 32);
            for (unsigned t = 0; t < block; t++) prepare(fibres[i * block + t], &blocks[i], t);
        }
        rounds(fibres, random);
    }
    for (auto& f : fibres) munmap(f.stack, STACK);
    counts[0] += run.block_barriers; counts[1] += run.bells;
    return problem.empty() ? nullptr : problem.c_str();
}
template <auto f> struct Kernel;
template <class... A, void (*f)(A...)> struct Kernel<f> {
    template <size_t... i> static void at(void** args, std::index_sequence<i...>) { f(*(std::remove_cvref_t<A>*)args[i]...); }
    static void call(void** args) { at(args, std::index_sequence_for<A...>{}); }
};
}
#define RUN(name) extern "C" const char* run_##name(void** a, unsigned g, unsigned b, size_t s, int c, unsigned seed, long* counts) { \
    return stand_in::launch(stand_in::Kernel<name>::call, a, g, b, s, c, seed, counts); }

DEVICE void copy16(float* to, const float* from) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) stand_in::problem = "a copy of 16 bytes whose address is no multiple of 16";
    stand_in::Copy c{to, {}};
    std::memcpy(c.value, from, 16);
    for (int i = 0; i < 4; i++) to[i] = std::numeric_limits<float>::quiet_NaN();
    stand_in::now->copies.push_back(c);
}
DEVICE void copies_wait() {
    for (auto& c : stand_in::now->copies) std::memcpy(c.to, c.value, 16);
    stand_in::now->copies.clear();
}
DEVICE void touch(const void* p) { (void)*(const volatile char*)p; }
DEVICE void arrive(unsigned* bell) { ++*bell; stand_in::run.bells++; stand_in::run.progress++; }
DEVICE unsigned arrived(const unsigned* bell) { stand_in::give_way(); return *bell; }
DEVICE float swap_with(float x, int lanes) {
    auto& w = stand_in::warp();
    const unsigned lane = stand_in::now->index.x % 32;
    w.value[lane] = x;
    stand_in::together(-1);
    const float y = w.value[lane ^ lanes];
    stand_in::together(-2);
    return y;
}
DEVICE unsigned tf32(float x) { return (std::bit_cast<unsigned>(x) + 0x1000u) & ~0x1fffu; }  // to nearest, ties away from zero
DEVICE void mma(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    auto& w = stand_in::warp();
    const unsigned lane = stand_in::now->index.x % 32, row = lane / 4, column = lane % 4 * 2;
    const unsigned mine[6] = {a0, a1, a2, a3, b0, b1};
    for (unsigned x : mine) if (x & 0x1fffu) stand_in::problem = "an operand of mma was not rounded to TF32";
    std::memcpy(w.operand[lane], mine, sizeof mine);
    stand_in::together(-3);
    auto A = [&](unsigned r, unsigned k) { return std::bit_cast<float>(w.operand[r % 8 * 4 + k % 4][r / 8 + 2 * (k / 4)]); };
    auto B = [&](unsigned k, unsigned n) { return std::bit_cast<float>(w.operand[n * 4 + k % 4][4 + k / 4]); };
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 8; k++) d[i] += A(row + 8 * (i / 2), k) * B(k, column + i % 2);
    stand_in::together(-4);
}
