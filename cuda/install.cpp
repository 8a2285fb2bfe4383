#include "cuda/install.h"

#include "cuda/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

Stream the_stream = nullptr;

KernelTable make_table() {
  KernelTable t;
  t.unary = unary;
  t.binary = binary;
  t.where = where;
  t.fill = fill;
  t.cast = cast;
  t.strided_copy = strided_copy;
  t.gather = gather;
  t.scatter_add = scatter_add;
  t.one_hot = one_hot;
  t.dropout = dropout;
  t.random = random;
  t.axpby = axpby;
  t.dot = dot;
  t.elastic = elastic;
  t.sgd = sgd;
  t.adam = adam;
  t.adahessian = adahessian;
  t.sophia = sophia;
  t.lion = lion;
  t.block_mean = block_mean;
  t.reduce = reduce;
  t.gemm = gemm;
  t.softmax = softmax;
  t.cross_entropy = cross_entropy;
  t.max_pool = max_pool;
  t.max_pool_gather = max_pool_gather;
  t.max_pool_scatter = max_pool_scatter;
  t.avg_pool = avg_pool;
  t.avg_pool_grad = avg_pool_grad;
  t.channel_affine = channel_affine;
  t.batch_norm = batch_norm;
  t.batch_norm_grad = batch_norm_grad;
  t.batch_norm_grad2 = batch_norm_grad2;
  t.layer_norm = layer_norm;
  t.layer_norm_grad = layer_norm_grad;
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
  return t;
}

Status install_once() {
  const Result<int> count = device_count();
  if (!count.ok()) return count.status();
  try {
    device_select(0);
    the_stream = stream_create();
  } catch (const Error& error) {  // a device that is there but cannot be used
    return Status(StatusCode::unavailable, error.what());
  }
  static const KernelTable table = make_table();
  set_kernel_table(Device::cuda, &table);
  return Status::Ok();
}

}  // namespace

Stream stream() { return the_stream; }

Status install() {
  static const Status status = install_once();
  return status;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
