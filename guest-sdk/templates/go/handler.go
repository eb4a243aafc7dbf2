// Says whether a room is too hot, and counts the readings of each device.
//
// build.sh puts this package where `wit-bindgen go` 0.63 looks for what the world exports.
package export_wit_world

import (
	"encoding/json"
	"strconv"

	state "wit_component/sandbar_handler_state"
	types "wit_component/sandbar_handler_types"
	settings "wit_component/wasi_config_store"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

var limit = 30.0

func Configure() wit.Result[wit.Unit, string] {
	if value := settings.Get("limit"); value.IsOk() && value.Ok().IsSome() {
		number, err := strconv.ParseFloat(value.Ok().Some(), 64)
		if err != nil {
			return wit.Err[wit.Unit, string]("setting `limit` is no number")
		}
		limit = number
	}
	return wit.Ok[wit.Unit, string](wit.Unit{})
}

func Handle(reading types.Reading) wit.Result[[]types.Output, types.Failure] {
	var payload struct {
		Temperature *float64 `json:"temperature"`
	}
	if json.Unmarshal(reading.Payload, &payload) != nil || payload.Temperature == nil {
		return wit.Err[[]types.Output, types.Failure](types.MakeFailureReject("the payload has no number `temperature`"))
	}
	// Of this device: state belongs to the reading's key.
	readings := 0
	if bytes := state.Get("readings"); bytes.IsSome() {
		readings, _ = strconv.Atoi(string(bytes.Some()))
	}
	readings++
	state.Set("readings", []byte(strconv.Itoa(readings)), wit.None[uint64]())
	checked, _ := json.Marshal(map[string]any{
		"temperature": *payload.Temperature, "hot": *payload.Temperature > limit, "readings": readings,
	})
	message := types.Message{
		Topic: reading.Topic + "/checked", Device: wit.None[string](), ContentType: "application/json",
		Attributes: nil, Payload: checked,
	}
	return wit.Ok[[]types.Output, types.Failure]([]types.Output{types.MakeOutputMessage(message)})
}
