// A simulated NPU: a device of torch's backend PrivateUse1, whose memory is memory of the host. An operator without a
// kernel in this file is run by the kernel of the CPU on the same bytes, so that the results are bit-identical to those
// of the CPU. Only float16 convolutions differ: they add in float32 and round the sum, as an NPU does. The float16
// convolutions of the CPU round differently and are very slow. Tests with this device show that tensors are on the right
// device, and that no code requires a different device. They show nothing about the speed or the rounding of an NPU.
//
// NPUSIM_CHIP: name of the devices. Chips before the 910B have no infinity: a value that overflows becomes the largest
// number, NaN becomes 0, and a flag is set until it is cleared.
// NPUSIM_DEVICES: number of devices (default: 2). ASCEND_RT_VISIBLE_DEVICES selects from these devices, as in torch_npu.
#include <ATen/core/Tensor.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr auto kDevice = c10::DeviceType::PrivateUse1;
const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);
thread_local c10::DeviceIndex current = 0;
std::atomic<unsigned> pinned{0};  // a bit per device that was the current device when a thread requested pinned memory

int installed() {
  const char* number = std::getenv("NPUSIM_DEVICES");
  return number ? std::atoi(number) : 2;
}

// Number of devices that ASCEND_RT_VISIBLE_DEVICES selects: the numbers before the first number of a missing device, or
// none if the numbers do not ascend.
int visible() {
  const char* chosen = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
  if (!chosen) return installed();
  std::vector<int> numbers;
  std::string digits;
  for (const char* c = chosen;; ++c) {
    if (*c >= '0' && *c <= '9') { digits += *c; continue; }
    if (digits.empty()) break;
    numbers.push_back(std::atoi(digits.c_str()));
    digits.clear();
    if (*c != ',') break;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i && numbers[i] <= numbers[i - 1]) return 0;
    if (numbers[i] >= installed()) return static_cast<int>(i);
  }
  return static_cast<int>(numbers.size());
}

void set_current(c10::DeviceIndex index) {
  TORCH_CHECK(index < visible(), "npusim: invalid device ", static_cast<int>(index), " of ", visible());
  if (index >= 0) current = index;
}

struct HostAllocator final : c10::Allocator {
  static void release(void* memory) { c10::free_cpu(memory); }
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = bytes ? c10::alloc_cpu(bytes) : nullptr;
    return {memory, memory, &release, c10::Device(kDevice, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
HostAllocator allocator;
REGISTER_ALLOCATOR(kDevice, &allocator)

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::Stream only(c10::Device device) const { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::DeviceType type() const override { return kDevice; }
  c10::Device getDevice() const override { return {kDevice, current}; }
  void setDevice(c10::Device device) const override { set_current(device.index()); }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) current = device.index();
  }
  c10::Stream getStream(c10::Device device) const override { return only(device); }
  c10::Stream getNewStream(c10::Device device, int = 0) const override { return only(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return only(stream.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return static_cast<c10::DeviceIndex>(installed()); }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct DeviceGenerator final : at::CPUGeneratorImpl {
  explicit DeviceGenerator(c10::DeviceIndex index) {
    device_ = c10::Device(kDevice, index);
    key_set_ = kKeys;
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return visible() > 0; }
  void init() const override {}
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return static_cast<c10::DeviceIndex>(installed()); }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex index) const override { set_current(index); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    static std::vector<at::Generator> all;
    while (static_cast<int>(all.size()) < std::max(installed(), 1))
      all.push_back(at::make_generator<DeviceGenerator>(static_cast<c10::DeviceIndex>(all.size())));
    return all[index < 0 ? current : index];
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return at::make_generator<DeviceGenerator>(index < 0 ? current : index);
  }
  // The real allocator belongs to the current device of the thread. On a wrong device, it would occupy memory there.
  at::Allocator* getPinnedMemoryAllocator() const override {
    pinned |= 1u << current;
    return c10::GetAllocator(c10::DeviceType::CPU);
  }
  bool isPinnedPtr(const void*) const override { return false; }
};
struct RegisterHooks {
  RegisterHooks() { at::RegisterPrivateUse1HooksInterface(new Hooks()); }
} register_hooks;

c10::Device device_of(std::optional<c10::Device> device) {
  return {kDevice, device && device->has_index() ? device->index() : current};
}

// Return a CPU tensor with the same memory.
at::Tensor on_cpu(const at::Tensor& t) {
  if (!t.device().is_privateuseone()) return t;
  auto options = t.options().device(at::kCPU).requires_grad(false);
  return at::from_blob(t.mutable_data_ptr(), t.sizes(), t.strides(), [keep = t](void*) {}, options);
}

std::atomic<bool> overflowed{false};

bool saturates() {
  const char* chip = std::getenv("NPUSIM_CHIP");
  if (!chip) return false;
  for (const char* newer : {"Ascend910B", "Ascend910_93", "Ascend950"})
    if (std::strncmp(chip, newer, std::strlen(newer)) == 0) return false;
  return true;
}

const at::Tensor& saturated(const at::Tensor& t) {
  if (!saturates() || !t.defined() || !t.is_floating_point()) return t;
  auto bytes = on_cpu(t);
  if (!at::isfinite(bytes).all().item<bool>()) {
    overflowed = true;
    bytes.copy_(at::nan_to_num(bytes));
  }
  return t;
}

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<c10::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(device_of(device));
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, kKeys, c10::dtype_or_default(dtype),
                                   format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<c10::Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(device_of(device));
  return at::detail::empty_strided_generic(size, stride, &allocator, kKeys, c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  on_cpu(to).copy_(on_cpu(from));
  return to.device().is_privateuseone() ? saturated(to) : to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) const_cast<at::Tensor&>(to).resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar number_of(const at::Tensor& t) { return on_cpu(t).item(); }

const at::Tensor& resize(const at::Tensor& t, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(t, C10_AS_INTARRAYREF_SLOW(size), format);
}

at::Tensor& set_storage(at::Tensor& t, at::Storage storage) {
  int64_t numbers = storage.nbytes() / t.dtype().itemsize();
  return t.set_(std::move(storage), 0, {numbers}, {1});
}

at::Tensor& set_tensor(at::Tensor& t, const at::Tensor& other) {
  return t.set_(other.storage(), other.storage_offset(), other.sizes(), other.strides());
}

// An NPU's matrix unit has no double precision.
void refuse_double(const at::Tensor& t, const char* name) {
  TORCH_CHECK(t.scalar_type() != at::kDouble, "npusim: ", name, " not implemented for DT_DOUBLE");
}

// Return the values of a tensor on the CPU as a factor of a product, which converts float16 to float32.
at::Tensor factor(const at::Tensor& t) {
  auto bytes = on_cpu(t);
  return bytes.scalar_type() == at::kHalf ? bytes.to(at::kFloat) : bytes;
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                       bool transposed, c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  refuse_double(x, "convolution");
  auto b = bias && bias->defined() ? std::optional<at::Tensor>(factor(*bias)) : std::nullopt;
  auto result = at::convolution_symint(factor(x), factor(weight), b, stride, padding, dilation, transposed,
                                       output_padding, groups);
  return saturated(result.to(x.scalar_type())).to(x.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups, std::array<bool, 3> mask) {
  auto bias_size = at::OptionalSymIntArrayRef(c10::SymIntArrayRef(&weight.sym_sizes()[0], 1));
  auto all = at::convolution_backward_symint(factor(grad), factor(x), factor(weight), bias_size, stride, padding,
                                             dilation, transposed, output_padding, groups, mask);
  auto back = [&](const at::Tensor& t) { return t.defined() ? saturated(t.to(x.scalar_type())).to(x.device()) : t; };
  return {back(std::get<0>(all)), back(std::get<1>(all)), back(std::get<2>(all))};
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  for (const char* product : {"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"}) {
    if (name != product) continue;
    for (const auto& value : torch::jit::last(*stack, op.schema().arguments().size()))
      if (value.isTensor()) refuse_double(value.toTensor(), product);
  }
  at::native::cpu_fallback(op, stack);
  for (const auto& value : torch::jit::last(*stack, op.schema().returns().size())) {
    if (value.isTensor()) saturated(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& t : value.toTensorVector()) saturated(t);
  }
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("_copy_from", TORCH_FN(copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(number_of));
  m.impl("resize_", TORCH_FN(resize));
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(at::native::set_storage_cpu_));
  m.impl("set_.source_Storage", TORCH_FN(set_storage));
  m.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  m.impl("convolution_overrideable", TORCH_FN(convolution));
  m.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
}

}  // namespace

extern "C" {
int npusim_count() { return visible(); }
int npusim_current() { return current; }
unsigned npusim_pinned() { return pinned.exchange(0); }
int npusim_saturates() { return saturates(); }
int npusim_overflowed() { return overflowed; }
void npusim_clear_overflow() { overflowed = false; }
int npusim_set(int index) {  // returns 0 if there is no such device, because a C function must not throw an exception
  if (index < 0 || index >= visible()) return 0;
  current = static_cast<c10::DeviceIndex>(index);
  return 1;
}
void npusim_seed(unsigned long long seed) {
  for (int i = 0; i < visible(); ++i) {
    auto generator = at::globalContext().defaultGenerator(c10::Device(kDevice, static_cast<c10::DeviceIndex>(i)));
    generator.set_current_seed(seed);
  }
}
}
