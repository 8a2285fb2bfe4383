/* Open MPI's all-reduce, for scripts/bench_all_reduce.sh: the counts and lines of bench/dist/all_reduce.cpp.
   usage: mpi_all_reduce FLOATS... */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int by_value(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  int rank, size;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (int c = 1; c < argc; ++c) {
    const int n = atoi(argv[c]);
    const int fit = 20000000 / n, calls = fit < 3 ? 3 : fit > 300 ? 300 : fit;
    float* x = malloc(sizeof(float) * (size_t)n);
    double seconds[300];
    for (int i = 0; i < n; ++i) x[i] = (float)(i % 1000 + rank);
    MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < n; ++i)
      if (x[i] != (float)(size * (i % 1000) + size * (size - 1) / 2)) MPI_Abort(MPI_COMM_WORLD, 1);
    for (int i = 0; i < n; ++i) x[i] = 0;
    for (int call = 0; call < calls; ++call) {
      const double begin = MPI_Wtime();
      MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      seconds[call] = MPI_Wtime() - begin;
    }
    qsort(seconds, (size_t)calls, sizeof *seconds, by_value);
    const double median = (seconds[(calls - 1) / 2] + seconds[calls / 2]) / 2;
    if (rank == 0) printf("openmpi\t%dp_%d\t%.1f\n", size, n, median * 1e6);
    free(x);
  }
  MPI_Finalize();
  return 0;
}
