// Folders of PNG and JPEG images, one sub folder for each class: DIR/train/CLASS/*.png and DIR/val/CLASS/* (or test/);
// without these two, DIR/CLASS/*, of which a fixed part is kept for tests.
//
// Classes are the sub folders sorted by name, samples the files .png, .jpg, .jpeg sorted by name. Files are decoded
// when they are read, in the loader's threads; one that cannot be is a DataError that names it.
//
// A sample is crop x crop x 3. Training, resized_crop: as augment.h says. Otherwise, and in tests: the shorter side is
// resized to `resize` and the crop is taken at random or from the middle.
// Normalisation: ImageNet's mean and deviation, unless the options say otherwise.
//
// Thread safety: immutable after construction.
#pragma once

#include <array>

#include "nn/data/dataset.h"
#include "nn/data/image.h"

namespace sinew::nn {

// Of v / 255 over ImageNet's training part, as torchvision's models use them.
inline constexpr std::array<double, 3> kImageNetMean = {0.485, 0.456, 0.406}, kImageNetStd = {0.229, 0.224, 0.225};
inline constexpr int64_t kImageFolderCrop = 224;

// The shorter side that an image is resized to before a crop: 256 for 224, in this proportion for others.
constexpr int64_t default_resize(int64_t crop) { return (crop * 8 + 3) / 7; }

struct ImageFile {
  std::string path;
  int64_t label = 0;
};

class ImageFolder final : public Dataset {
 public:
  // options.crop and resize > 0, resize >= crop.
  ImageFolder(std::vector<ImageFile> files, std::vector<std::string> class_names, const ImageOptions& options);

  std::string name() const override { return "images"; }
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  Shape sample_shape() const override { return {options_.crop, options_.crop, 3}; }
  int64_t classes() const override { return static_cast<int64_t>(class_names_.size()); }
  std::vector<std::string> class_names() const override { return class_names_; }
  int64_t label(int64_t index) const override;
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override;
  void read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                      int64_t* labels) const override;

 private:
  void read(const Draw* draw, std::span<const int64_t> indices, float* inputs, int64_t* labels) const;

  const std::vector<ImageFile> files_;
  const std::vector<std::string> class_names_;
  const ImageOptions options_;
  const Normalisation normalisation_;
};

// options.crop 0: kImageFolderCrop; options.resize 0: default_resize. test_share: of a folder without a test part.
Result<DataSplit> open_image_folder(const std::string& dir, double test_share, ImageOptions options);

}  // namespace sinew::nn
