#include "cuda/install.h"

#include "cuda/entries.h"
#include "cuda/graph.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

Stream the_stream = nullptr;

KernelTable make_table() {
  KernelTable t;
#define SINEW_ENTRY(name, Args) t.name = name;
  SINEW_KERNELS(SINEW_ENTRY)
#undef SINEW_ENTRY
  t.allocate = [](size_t bytes) { return memory_allocate(bytes, stream()); };
  t.release = [](void* data, size_t) { memory_free(data, stream()); };
  t.upload = [](void* device, const void* host, size_t bytes) {
    if (bytes > 0) copy_to_device(device, host, bytes, stream());
  };
  t.download = [](void* host, const void* device, size_t bytes) {
    if (bytes > 0) copy_to_host(host, device, bytes, stream());
  };
  t.copy = [](void* to, const void* from, size_t bytes) {
    if (bytes > 0) copy_on_device(to, from, bytes, stream());
  };
  t.synchronize = [] { stream_synchronize(stream()); };
  t.host_allocate = pinned_allocate;
  t.host_release = pinned_free;
  t.upload_begin = [](void* device, const void* host, size_t bytes) {
    return copy_to_device_begin(device, host, bytes, stream());
  };
  t.download_begin = [](void* host, const void* device, size_t bytes) {
    return copy_to_host_begin(host, device, bytes, stream());
  };
  t.wait = copy_wait;
  t.stream = [] { return stream(); };
  t.finished = [] { return stream_finished(stream()); };
  t.identity = [] { return device_properties(0).identity; };
  t.graph_begin = graph_begin;
  t.graph_mark = record_mark;
  t.graph_end = graph_end;
  t.graph_renew = graph_renew;
  t.graph_launch = graph_launch;
  t.graph_release = graph_release;
  return t;
}

Status install_once() {
  const Result<int> count = device_count();
  if (!count.ok()) return count.status();
  try {
    device_select(0);
    the_stream = stream_create();
    // One kernel: a program that was built for other GPUs fails here, in one line.
    void* const word = memory_allocate(sizeof(float), the_stream);
    fill({DType::f32, 1, word, 0});
    stream_synchronize(the_stream);
    memory_free(word, the_stream);
  } catch (const Error& error) {  // a device that is there but cannot be used
    return make_status(StatusCode::unavailable, "the CUDA device cannot be used: ", error.what(),
                       "; is CMAKE_CUDA_ARCHITECTURES that of this GPU?");
  }
  static const KernelTable table = make_table();
  set_kernel_table(Device::cuda, &table);
  return Status::Ok();
}

}  // namespace

Stream stream() { return the_stream; }

int devices() {
  const Result<int> count = device_count();
  return count.ok() ? *count : 0;
}

Status install() {
  static const Status status = install_once();
  return status;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
