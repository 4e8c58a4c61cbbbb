// Enough of CUDA to run one block's threads after the other on a CPU, as contexts that change at every barrier.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static
using std::max;
using std::min;

struct Index { unsigned x; };
static Index thread_indices[1024], blockIdx, gridDim, blockDim;
static unsigned current;
#define threadIdx (thread_indices[current])
static ucontext_t scheduler, contexts[1024];
static bool ended[1024];
static void pass_on() { swapcontext(&contexts[current], &scheduler); }

struct Barrier {
  unsigned arrived = 0, round = 0;
  void wait(unsigned threads) {
    const unsigned mine = round;
    if (++arrived == threads) arrived = 0, ++round;
    else while (mine == round) pass_on();
  }
};
static Barrier of_block, of_warp[32];
static uint64_t told[1024];
static void __syncthreads() { of_block.wait(blockDim.x); }
static void __syncwarp() { of_warp[current / 32].wait(32); }

// Every lane says a value; each then makes its own of all 32.
template <class T, class F> static auto of_lanes(T value, F made) {
  told[current] = 0;
  memcpy(&told[current], &value, sizeof value);
  __syncwarp();
  auto result = made(&told[current / 32 * 32]);
  __syncwarp();
  return result;
}
template <class T> static T lane(T value, unsigned from) {
  return of_lanes(value, [&](const uint64_t *all) { T v; memcpy(&v, &all[from], sizeof v); return v; });
}
template <class T> static T __shfl_sync(unsigned, T v, unsigned from) { return lane(v, from % 32); }
template <class T> static T __shfl_xor_sync(unsigned, T v, unsigned bits) { return lane(v, current % 32 ^ bits); }
template <class T> static T __shfl_up_sync(unsigned, T v, unsigned by) {
  return lane(v, current % 32 >= by ? current % 32 - by : current % 32);
}
static unsigned __ballot_sync(unsigned, unsigned value) {
  return of_lanes<uint64_t>(value != 0, [](const uint64_t *all) {
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= (unsigned)all[i] << i;
    return bits;
  });
}
static bool __any_sync(unsigned all, unsigned value) { return __ballot_sync(all, value) != 0; }
static int __syncthreads_or(int value) {
  static int any;
  any |= value != 0;
  __syncthreads();
  const int result = any;
  __syncthreads();
  any = 0;
  __syncthreads();
  return result;
}
#define __popc(x) __builtin_popcount(x)
#define __ffs(x) __builtin_ffs(x)
template <class T> static T atomicAdd(T *at, T value) { const T was = *at; *at += value; return was; }
template <class T> static T atomicOr(T *at, T value) { const T was = *at; *at |= value; return was; }

static unsigned char *dynamic_memory;
static uint64_t arguments[16];
static void (*kernel)();
static void thread() { kernel(); ended[current] = true; pass_on(); }

static void run(void (*chosen)(), unsigned blocks, unsigned threads, const uint64_t *values, unsigned count) {
  const unsigned stack = 1 << 16;
  static char *stacks = (char *)malloc(1024 * stack);
  if (!dynamic_memory) dynamic_memory = (unsigned char *)aligned_alloc(128, 1 << 18);
  memcpy(arguments, values, 8 * count);
  kernel = chosen, gridDim.x = blocks, blockDim.x = threads;
  for (unsigned b = 0; b < blocks; ++b) {
    blockIdx.x = b, of_block = Barrier();
    std::fill(of_warp, of_warp + 32, Barrier());
    for (unsigned t = 0; t < threads; ++t) {
      thread_indices[t].x = t, ended[t] = false;
      getcontext(&contexts[t]);
      contexts[t].uc_stack.ss_sp = stacks + t * stack, contexts[t].uc_stack.ss_size = stack, contexts[t].uc_link = 0;
      makecontext(&contexts[t], thread, 0);
    }
    for (unsigned left = threads; left;) {
      left = 0;
      for (unsigned t = 0; t < threads; ++t)
        if (!ended[t]) ++left, current = t, swapcontext(&scheduler, &contexts[t]);
    }
  }
}
