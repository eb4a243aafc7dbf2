// Says whether a room is too hot, and counts the readings of each device.
//
// The names of what componentize-dotnet makes of wit/ are in obj/; look there if yours differ.

using System.Globalization;
using System.Text;
using System.Text.Json;
using HandlerWorld.wit.imports.sandbar.handler.v0_1_0;

namespace HandlerWorld;

public class HandlerWorldImpl : IHandlerWorld
{
    static double limit = 30;

    public static void Configure()
    {
        var setting = wit.imports.wasi.config.v0_2_0_rc_1.StoreInterop.Get("limit");
        if (setting is not null && !double.TryParse(setting, CultureInfo.InvariantCulture, out limit))
            throw new WitException<string>("setting `limit` is no number", 0);
    }

    public static List<ITypes.Output> Handle(ITypes.Reading reading)
    {
        double temperature;
        try
        {
            temperature = JsonDocument.Parse(reading.payload).RootElement.GetProperty("temperature").GetDouble();
        }
        catch (Exception)
        {
            throw new WitException<ITypes.Failure>(ITypes.Failure.Reject("the payload has no number `temperature`"), 0);
        }
        var bytes = StateInterop.Get("readings");
        var readings = bytes is null ? 1 : int.Parse(Encoding.UTF8.GetString(bytes)) + 1;
        StateInterop.Set("readings", Encoding.UTF8.GetBytes(readings.ToString()), null);
        var hot = temperature > limit ? "true" : "false";
        var body = string.Create(CultureInfo.InvariantCulture,
            $"{{\"temperature\":{temperature},\"hot\":{hot},\"readings\":{readings}}}");
        var message = new ITypes.Message(reading.topic + "/checked", null, "application/json", [], Encoding.UTF8.GetBytes(body));
        return [ITypes.Output.Message(message)];
    }
}
