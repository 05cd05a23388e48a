;; A policy written by hand, for what no compiler emits: functions that run before or after a hook, tables, memories and
;; answers that cannot be read. The build script of `host/policy` makes components of it and replaces
;;
;;   VARIANT   how it misbehaves, a number of the list below
;;   PAGES     pages of memory that it begins with
;;   ELEMENTS  elements of its table likewise
;;
;; A zeroed answer is: settings that can be used, an empty plan, nothing sent, no actions.
(module
  (import "restante:policy/log@0.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") PAGES)
  (table $table ELEMENTS funcref)
  (global $variant i32 (i32.const VARIANT))
  (global $allocations (mut i32) (i32.const 0))
  ;; Below it: texts and answers.
  (global $free (mut i32) (i32.const 8192))
  (data (i32.const 16) "by-hand")

  (func $is (param $number i32) (result i32)
    (i32.eq (global.get $variant) (local.get $number)))

  (func $spin (loop $forever (br $forever)))

  ;; Some hundred million steps.
  (func $burn
    (local $left i32)
    (local.set $left (i32.const 200000000))
    (loop $on
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $on (local.get $left))))

  ;; 1: start-up never ends. 2: start-up takes longer than a decision may, and less than describe may.
  (func $start
    (if (call $is (i32.const 1)) (then (call $spin)))
    (if (call $is (i32.const 2)) (then (call $burn))))
  (start $start)

  ;; 3: allocation never ends. 4: allocation never ends once a question comes; check-settings needs few.
  ;; 5: it gives places that are none. 6: it gives the same place each time.
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
    (if (call $is (i32.const 3)) (then (call $spin)))
    (if (i32.gt_u (global.get $allocations) (i32.const 6))
      (then
        (if (call $is (i32.const 4)) (then (call $spin)))
        (if (call $is (i32.const 5)) (then (return (i32.const 0xfffffff0))))
        (if (call $is (i32.const 6)) (then (return (i32.const 8192))))))
    (local.set $at
      (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const 0xfffffff8)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "describe") (result i32)
    (i32.store (i32.const 1024) (i32.const 16))
    (i32.store (i32.const 1028) (i32.const 7))
    (i32.const 1024))

  (func (export "check-settings") (param i32 i32 i32 i64 i32 i32) (result i32)
    (i32.const 2048))

  ;; What each hook begins with.
  (func $hook
    ;; 7: a table that grows as far as it is let, and further.
    (if (call $is (i32.const 7))
      (then
        (loop $on
          (br_if $on (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
        (unreachable)))
    ;; 8: a log line that lies outside of memory.
    (if (call $is (i32.const 8))
      (then (call $log (i32.const 1) (i32.const 0xfffffff0) (i32.const 0xfffffff0))))
    ;; 9: a level that there is not.
    (if (call $is (i32.const 9))
      (then (call $log (i32.const 77) (i32.const 16) (i32.const 7))))
    ;; 10: a time that no number is.
    (if (call $is (i32.const 10))
      (then (drop (i64.trunc_f64_u (f64.const nan)))))
    ;; 11: one that is negative.
    (if (call $is (i32.const 11))
      (then (drop (i64.trunc_f64_u (f64.const -1.5)))))
    ;; 12: log lines for as long as it may.
    (if (call $is (i32.const 12))
      (then (loop $on (call $log (i32.const 2) (i32.const 0) (i32.const 1000)) (br $on)))))

  ;; Where an answer is. 13: outside of memory. 14: not where it may begin.
  (func $answer (result i32)
    (if (call $is (i32.const 13)) (then (return (i32.const 0xfffffff8))))
    (if (call $is (i32.const 14)) (then (return (i32.const 4097))))
    ;; 15: a case that there is not. 16: an error whose text is longer than memory. 17: one that is not UTF-8.
    (if (call $is (i32.const 15)) (then (i32.store8 (i32.const 4096) (i32.const 200))))
    (if (i32.or (call $is (i32.const 16)) (call $is (i32.const 17)))
      (then
        (i32.store8 (i32.const 4096) (i32.const 1))
        (i32.store (i32.const 4100) (i32.const 3000))
        (i32.store (i32.const 4104) (i32.const 3000))
        (i32.store (i32.const 4108) (i32.const 4))
        (i32.store (i32.const 3000) (i32.const 0xfffefdfc))
        (if (call $is (i32.const 16))
          (then
            (i32.store (i32.const 4104) (i32.const 0x7fffffff))
            (i32.store (i32.const 4108) (i32.const 0x7fffffff))))))
    ;; 18: a list longer than memory.
    (if (call $is (i32.const 18))
      (then
        (i32.store (i32.const 4100) (i32.const 3000))
        (i32.store (i32.const 4104) (i32.const 0x7fffffff))
        (i32.store (i32.const 4108) (i32.const 0x7fffffff))))
    (i32.const 4096))

  ;; ok(keep) for as long as the server does, usual priority, at once.
  (func (export "on-incoming") (param i32) (result i32)
    (call $hook)
    (i32.store8 (i32.const 4104) (i32.const 1))
    (i64.store (i32.const 4112) (i64.const -1))
    (i32.store8 (i32.const 4120) (i32.const 100))
    (i32.store8 (i32.const 4121) (i32.const 1))
    (call $answer))
  (func (export "on-available") (param i32) (result i32) (call $hook) (call $answer))
  (func (export "on-pull") (param i32) (result i32) (call $hook) (call $answer))
  (func (export "on-failure") (param i32) (result i32) (call $hook) (call $answer))
  (func (export "on-expiry") (param i32) (result i32) (call $hook) (call $answer))

  ;; 19: what follows an answer never ends.
  (func $after (param i32)
    (if (call $is (i32.const 19)) (then (call $spin))))
  (export "cabi_post_on-incoming" (func $after))
  (export "cabi_post_on-available" (func $after))
  (export "cabi_post_on-pull" (func $after))
  (export "cabi_post_on-failure" (func $after))
  (export "cabi_post_on-expiry" (func $after)))
