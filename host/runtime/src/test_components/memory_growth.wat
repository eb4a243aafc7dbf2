  (func (export "handle")
    (param $id i32) (param $id_len i32) (param $ingress i32) (param $ingress_len i32)
    (param $topic i32) (param $topic_len i32) (param $has_device i32) (param $device i32) (param $device_len i32)
    (param $time i64) (param $type i32) (param $type_len i32)
    (param $attributes i32) (param $attributes_len i32) (param $payload i32) (param $payload_len i32) (result i32)
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
