// The backend's entries of core's kernel table; cuda/install.cpp puts them there. Each lives in the .cpp of its family.
#pragma once

#include "core/kernel_api.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

void unary(const kernel::UnaryArgs& args);
void binary(const kernel::BinaryArgs& args);
void where(const kernel::WhereArgs& args);
void fill(const kernel::FillArgs& args);
void cast(const kernel::CastArgs& args);
void strided_copy(const kernel::StridedCopyArgs& args);
void gather(const kernel::GatherArgs& args);
void scatter_add(const kernel::ScatterAddArgs& args);
void one_hot(const kernel::OneHotArgs& args);
void dropout(const kernel::DropoutArgs& args);
void random(const kernel::RandomArgs& args);
void axpby(const kernel::AxpbyArgs& args);
void dot(const kernel::DotArgs& args);
void elastic(const kernel::ElasticArgs& args);
void sgd(const kernel::SgdArgs& args);
void adam(const kernel::AdamArgs& args);
void adahessian(const kernel::AdaHessianArgs& args);
void sophia(const kernel::SophiaArgs& args);
void lion(const kernel::LionArgs& args);
void block_mean(const kernel::BlockMeanArgs& args);
void reduce(const kernel::ReduceArgs& args);
void gemm(const kernel::GemmArgs& args);
void softmax(const kernel::SoftmaxArgs& args);
void cross_entropy(const kernel::CrossEntropyArgs& args);
void max_pool(const kernel::PoolArgs& args);
void max_pool_gather(const kernel::PoolArgs& args);
void max_pool_scatter(const kernel::PoolArgs& args);
void avg_pool(const kernel::PoolArgs& args);
void avg_pool_grad(const kernel::PoolArgs& args);
void channel_affine(const kernel::ChannelAffineArgs& args);
void batch_norm(const kernel::BatchNormArgs& args);
void batch_norm_grad(const kernel::BatchNormGradArgs& args);
void batch_norm_grad2(const kernel::BatchNormGrad2Args& args);
void layer_norm(const kernel::LayerNormArgs& args);
void layer_norm_grad(const kernel::LayerNormGradArgs& args);

// The stream all work of this process goes to: kernels, copies and allocations of all threads are in one order,
// so a block of memory may be freed by another thread than the one that used it.
Stream stream();

}  // namespace sinew::cuda::SINEW_CUDA_NS
