#include "nn/data/u8_dataset.h"

#include <algorithm>

#include "nn/data/resize.h"

namespace sinew::nn {
namespace {

bool is_image(const Shape& sample) { return sample.ndim() == 3; }
int64_t channels_of(const Shape& sample) { return is_image(sample) ? sample[2] : 1; }

Shape cropped(const Shape& sample, const ImageOptions& options) {
  return is_image(sample) && options.crop > 0 ? Shape{options.crop, options.crop, sample[2]} : sample;
}

}  // namespace

int64_t U8Samples::size() const {
  return targets.empty() ? static_cast<int64_t>(labels.size()) : static_cast<int64_t>(targets.size()) / classes;
}

Status check_image_options(const ImageOptions& o, const Shape& sample) {
  if (!is_image(sample)) {
    if (o.crop > 0 || o.augment != Augment::none)
      return make_status(StatusCode::invalid_argument, "data.crop, data.augment: samples of shape ", sample,
                         " are not images (H, W, C); leave these options out");
  } else if (o.crop > sample[0] || o.crop > sample[1]) {
    return make_status(StatusCode::invalid_argument, "data.crop ", o.crop, " is more than the images' ", sample[0],
                       " x ", sample[1], "; 0 takes the whole image");
  }
  return check_normalisation(o, channels_of(sample));
}

U8Dataset::U8Dataset(U8Samples samples, const ImageOptions& options)
    : samples_(std::move(samples)),
      options_(options),
      shape_(cropped(samples_.sample_shape, options)),
      normalisation_(channels_of(samples_.sample_shape), options.mean.empty() ? samples_.mean : options.mean,
                     options.std.empty() ? samples_.std : options.std) {
  const Shape& sample = samples_.sample_shape;
  if (const Status fits = check_image_options(options, sample); !fits.ok()) SINEW_FAIL("u8_dataset", fits.message());
  const size_t per_sample = static_cast<size_t>(sample.numel());
  SINEW_CHECK(samples_.classes > 0 && samples_.values.size() == static_cast<size_t>(size()) * per_sample, "u8_dataset",
              samples_.values.size(), " values for ", size(), " samples of shape ", sample);
  SINEW_CHECK(has_number_targets() || static_cast<int64_t>(samples_.class_names.size()) == samples_.classes,
              "u8_dataset", samples_.class_names.size(), " class names for ", samples_.classes, " classes");
  for (int32_t label : samples_.labels)
    SINEW_CHECK(label >= 0 && label < samples_.classes, "u8_dataset", "label ", label, " of ", samples_.classes,
                " classes");
  if (is_image(sample))
    height_ = sample[0], width_ = sample[1];
  else
    width_ = sample.numel();
}

int64_t U8Dataset::label(int64_t index) const {
  SINEW_CHECK(index >= 0 && index < size(), "label", "sample ", index, " of ", size());
  SINEW_CHECK(!has_number_targets(), "label", "the targets of ", name(), " are numbers");
  return samples_.labels[static_cast<size_t>(index)];
}

void U8Dataset::read_targets(std::span<const int64_t> indices, float* targets) const {
  SINEW_CHECK(has_number_targets(), "read_targets", "the data set ", name(), " has labels");
  for (int64_t index : indices) {
    SINEW_CHECK(index >= 0 && index < size(), "read", "sample ", index, " of ", size());
    targets = std::copy_n(samples_.targets.data() + index * samples_.classes, samples_.classes, targets);
  }
}

void U8Dataset::read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  read(nullptr, indices, inputs, labels);
}

void U8Dataset::read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                               int64_t* labels) const {
  read(&draw, indices, inputs, labels);
}

void U8Dataset::read(const Draw* draw, std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  const int64_t per_sample = samples_.sample_shape.numel(), channels = normalisation_.channels();
  const int64_t height = is_image(shape_) ? shape_[0] : 1, width = is_image(shape_) ? shape_[1] : width_;
  std::vector<uint8_t> resized;
  for (int64_t index : indices) {
    SINEW_CHECK(index >= 0 && index < size(), "read", "sample ", index, " of ", size());
    if (!has_number_targets()) *labels++ = samples_.labels[static_cast<size_t>(index)];
    const uint8_t* image = samples_.values.data() + index * per_sample;
    Window window = draw ? training_window(options_, height_, width_, height, width, *draw, index)
                         : central_window(height_, width_, height, width);
    if (window.height == height && window.width == width) {
      normalisation_.write(image, height_, width_, window, inputs);
    } else {  // of a resized crop
      resized.resize(static_cast<size_t>(height * width * channels));
      resize_window(image, width_, channels, window, height, width, resized.data());
      window = {.height = height, .width = width, .flip = window.flip};
      normalisation_.write(resized.data(), height, width, window, inputs);
    }
    inputs += shape_.numel();
  }
}

Result<DataSplit> make_u8_split(U8Samples train, U8Samples test, const ImageOptions& options) {
  SINEW_RETURN_IF_ERROR(check_image_options(options, train.sample_shape));
  return DataSplit{std::make_shared<U8Dataset>(std::move(train), options),
                   std::make_shared<U8Dataset>(std::move(test), options)};
}

}  // namespace sinew::nn
