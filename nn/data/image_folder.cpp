#include "nn/data/image_folder.h"

#include <algorithm>
#include <filesystem>

#include "nn/data/data_file.h"
#include "nn/data/resize.h"
#include "nn/data/subset.h"

namespace sinew::nn {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxImageFile = uint64_t{1} << 28;

std::vector<double> or_else(const std::vector<double>& given, const std::array<double, 3>& usual) {
  return given.empty() ? std::vector<double>(usual.begin(), usual.end()) : given;
}

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

// The names in a folder for which `wanted` holds, sorted.
template <class Wanted>
Result<std::vector<std::string>> list(const fs::path& dir, const Wanted& wanted) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(dir, error), end; !error && entry != end; entry.increment(error))
    if (const std::string name = entry->path().filename().string(); !name.starts_with('.') && wanted(*entry))
      names.push_back(name);
  if (error) return make_status(StatusCode::io_error, dir.string(), ": ", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::vector<std::string>> class_folders(const fs::path& dir) {
  return list(dir, [](const fs::directory_entry& e) {
    std::error_code error;
    return e.is_directory(error);
  });
}

// classes: those of the training part; a part without images of one of them is fine for tests.
Result<std::vector<ImageFile>> list_images(const fs::path& dir, const std::vector<std::string>& classes) {
  std::vector<ImageFile> files;
  for (size_t c = 0; c < classes.size(); ++c) {
    std::error_code error;
    if (!fs::is_directory(dir / classes[c], error)) continue;
    Result<std::vector<std::string>> names =
        list(dir / classes[c], [](const fs::directory_entry& e) { return is_image_name(e.path()); });
    if (!names.ok()) return names.status();
    for (const std::string& name : *names)
      files.push_back({(dir / classes[c] / name).string(), static_cast<int64_t>(c)});
  }
  if (files.empty())
    return make_status(StatusCode::not_found, "data.dir: no images in '", dir.string(),
                       "'; expected are files .png, .jpg or .jpeg in one sub folder for each class");
  return files;
}

}  // namespace

ImageFolder::ImageFolder(std::vector<ImageFile> files, std::vector<std::string> class_names,
                         const ImageOptions& options)
    : files_(std::move(files)),
      class_names_(std::move(class_names)),
      options_(options),
      normalisation_(3, or_else(options.mean, kImageNetMean), or_else(options.std, kImageNetStd)) {
  SINEW_CHECK(options_.crop > 0 && options_.resize >= options_.crop, "image_folder", "crop ", options_.crop,
              ", resize ", options_.resize);
}

int64_t ImageFolder::label(int64_t index) const {
  SINEW_CHECK(index >= 0 && index < size(), "label", "sample ", index, " of ", size());
  return files_[static_cast<size_t>(index)].label;
}

void ImageFolder::read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  read(nullptr, indices, inputs, labels);
}
void ImageFolder::read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                                 int64_t* labels) const {
  read(&draw, indices, inputs, labels);
}

void ImageFolder::read(const Draw* draw, std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  const int64_t side = options_.crop;
  std::vector<uint8_t> resized;
  for (int64_t index : indices) {
    *labels++ = label(index);
    const std::string& path = files_[static_cast<size_t>(index)].path;
    Result<std::vector<uint8_t>> bytes = read_data_file(path, kMaxImageFile);
    if (!bytes.ok()) throw DataError(bytes.status());
    const Result<Image> image = decode_image(*bytes, path);
    if (!image.ok()) throw DataError(image.status());
    int64_t height = side, width = side;  // of the resized image
    Window part{.height = image->height, .width = image->width}, window{.height = side, .width = side};
    if (draw && options_.augment == Augment::resized_crop) {
      part = training_window(options_, image->height, image->width, side, side, *draw, index);
      window.flip = part.flip;
    } else {
      // The longer side in proportion, rounded half up.
      const int64_t shorter = std::min(image->height, image->width);
      height = (image->height * options_.resize * 2 + shorter) / (2 * shorter);
      width = (image->width * options_.resize * 2 + shorter) / (2 * shorter);
      if (height * width > kMaxImagePixels)
        throw DataError(bad_data(path, "an image of ", image->width, " x ", image->height,
                                 " pixels is too slim for data.resize ", options_.resize));
      window = draw ? training_window(options_, height, width, side, side, *draw, index)
                    : central_window(height, width, side, side);
    }
    resized.resize(static_cast<size_t>(height * width * 3));
    resize_window(image->pixels.data(), image->width, 3, part, height, width, resized.data());
    normalisation_.write(resized.data(), height, width, window, inputs);
    inputs += side * side * 3;
  }
}

Result<DataSplit> open_image_folder(const std::string& dir, double test_share, ImageOptions options) {
  SINEW_RETURN_IF_ERROR(
      check_data_folder("images", dir, "expected are train/CLASS/*.png (or .jpg) and val/CLASS/*, or CLASS/*"));
  if (options.crop == 0) options.crop = kImageFolderCrop;
  if (options.resize == 0) options.resize = default_resize(options.crop);
  if (options.resize < options.crop)
    return make_status(StatusCode::invalid_argument, "data.resize ", options.resize, " is less than data.crop ",
                       options.crop);
  SINEW_RETURN_IF_ERROR(check_normalisation(options, 3));
  const fs::path root(dir);
  std::error_code error;
  const bool parted = fs::is_directory(root / "train", error);
  Result<std::vector<std::string>> classes = class_folders(parted ? root / "train" : root);
  if (!classes.ok()) return classes.status();
  Result<std::vector<ImageFile>> files = list_images(parted ? root / "train" : root, *classes);
  if (!files.ok()) return files.status();
  const int64_t size = static_cast<int64_t>(files->size());
  const auto all = std::make_shared<ImageFolder>(std::move(*files), *classes, options);
  if (!parted) {
    Result<TestSplit> split = split_off_test(size, test_share);
    if (!split.ok()) return split.status();
    return DataSplit{std::make_shared<Subset>(all, std::move(split->train)),
                     std::make_shared<Subset>(all, std::move(split->test))};
  }
  const fs::path test = fs::is_directory(root / "val", error) ? root / "val" : root / "test";
  Result<std::vector<std::string>> test_classes =
      fs::is_directory(test, error)
          ? class_folders(test)
          : Result<std::vector<std::string>>(make_status(StatusCode::not_found, "data.dir '", dir,
                                                         "' has a folder train, but neither val nor test"));
  if (!test_classes.ok()) return test_classes.status();
  for (const std::string& name : *test_classes)
    if (!std::ranges::binary_search(*classes, name))
      return bad_data(test.string(), "the class '", name, "' is not in ", (root / "train").string());
  Result<std::vector<ImageFile>> test_files = list_images(test, *classes);
  if (!test_files.ok()) return test_files.status();
  return DataSplit{all, std::make_shared<ImageFolder>(std::move(*test_files), *classes, options)};
}

}  // namespace sinew::nn
