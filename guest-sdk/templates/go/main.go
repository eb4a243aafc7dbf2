// Says whether a room is too hot, and counts the readings of each device.
//
// The package names below are those that `wit-bindgen go` 0.63 makes of wit/; look into gen/ if yours differ.
package main

import (
	"encoding/json"
	"strconv"

	state "my-module/gen/sandbar_handler_state"
	types "my-module/gen/sandbar_handler_types"
	store "my-module/gen/wasi_config_store"

	witTypes "my-module/gen/wit_types"
)

var limit = 30.0

func Configure() witTypes.Result[witTypes.Unit, string] {
	if value := store.Get("limit"); value.IsOk() && value.Ok().IsSome() {
		number, err := strconv.ParseFloat(value.Ok().Some(), 64)
		if err != nil {
			return witTypes.Err[witTypes.Unit, string]("setting `limit` is no number")
		}
		limit = number
	}
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

func Handle(reading types.Reading) witTypes.Result[[]types.Output, types.Failure] {
	var payload struct {
		Temperature *float64 `json:"temperature"`
	}
	if json.Unmarshal(reading.Payload, &payload) != nil || payload.Temperature == nil {
		return witTypes.Err[[]types.Output, types.Failure](types.MakeFailureReject("the payload has no number `temperature`"))
	}
	readings := 0
	if bytes := state.Get("readings"); bytes.IsSome() {
		readings, _ = strconv.Atoi(string(bytes.Some()))
	}
	readings++
	state.Set("readings", []byte(strconv.Itoa(readings)), witTypes.None[uint64]())
	checked, _ := json.Marshal(map[string]any{
		"temperature": *payload.Temperature, "hot": *payload.Temperature > limit, "readings": readings,
	})
	message := types.Message{
		Topic: reading.Topic + "/checked", Device: witTypes.None[string](), ContentType: "application/json",
		Attributes: nil, Payload: checked,
	}
	return witTypes.Ok[[]types.Output, types.Failure]([]types.Output{types.MakeOutputMessage(message)})
}

func main() {}
