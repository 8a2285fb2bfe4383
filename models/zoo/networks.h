// The networks of the papers, one function each; zoo.h finds them by name. options: dropout and init only. input: shape
// of a sample (H, W, C). Errors: invalid_argument when the samples are too small.
#pragma once

#include "models/options.h"
#include "nn/module.h"

namespace sinew::train {

#define SINEW_NETWORK(name) \
  Result<nn::Model> make_##name(const Options::Model& options, const Shape& input, int64_t outputs)

// LeNet's kind: two 5x5 convolutions (32, 64) with 2x2 pooling, 512 hidden units. 1,663,370 parameters for 28x28x1.
SINEW_NETWORK(lenet);
// Two 3x3 convolutions (32, 64), pooling, 128 hidden units: the network of the dynamic-weighting runs
// (arXiv:2409.09242 does not say which it used). 1,199,882 parameters for 28x28x1.
SINEW_NETWORK(cnn_mnist);
// The 7-layer network of EASGD (arXiv:1412.6651, section 5.1) for 28x28 crops, also LSGD's CNN7: 351,946 parameters.
// Biases start at 0.
SINEW_NETWORK(easgd_cifar);
// Its 11-layer network for 221x221 crops: 61,128,808 parameters with 1000 outputs. Biases start at 0.1.
SINEW_NETWORK(easgd_imagenet);
// The MLP of the Elastic Gossip thesis (arXiv:1812.02407): three hidden layers of 1024, dropout 0.2 on the input and
// 0.5 on the hidden units. 2,913,290 parameters for 784 inputs.
SINEW_NETWORK(gossip_mlp);
// Configuration D of Simonyan and Zisserman 2015 with batch norm, for 32x32: two hidden layers of 512 with dropout
// (LSGD, arXiv:1905.10395). 15,253,578 parameters.
SINEW_NETWORK(vgg16);
// He et al. 2016 (arXiv:1512.03385), for CIFAR: shortcuts without parameters. 269,722, 464,154 and 853,018 parameters.
SINEW_NETWORK(resnet20);
SINEW_NETWORK(resnet32);
SINEW_NETWORK(resnet56);
// The same paper, for ImageNet. 11,689,512 and 25,557,032 parameters with 1000 outputs.
SINEW_NETWORK(resnet18);
SINEW_NETWORK(resnet50);
// He et al. 2016 (arXiv:1603.05027) for CIFAR, widths 64 to 512, no batch norm before the last layer, as the Elastic
// Gossip thesis used it. 11,171,146 parameters.
SINEW_NETWORK(preact_resnet18);
// Wide residual network (arXiv:1605.07146). 36,479,194 parameters.
SINEW_NETWORK(wrn28_10);

#undef SINEW_NETWORK

}  // namespace sinew::train
